"""Pictures of architectures: what `reskeras.plotting` draws, as plain data until the last moment."""
