"""Run by `tox -e wheel`: what the wheel holds."""

import sys
import zipfile
from pathlib import Path

(wheel,) = Path(sys.argv[1]).glob("*.whl")
names = zipfile.ZipFile(wheel).namelist()
tops = {name.partition("/")[0] for name in names}
info = next(top for top in tops if top.endswith(".dist-info"))
assert tops == {"reskeras", "tuning", info}, tops
root = Path(__file__).parent.parent
ours = {
    str(path.relative_to(root))
    for package in ("reskeras", "tuning")
    for path in (root / package).rglob("*.py")
}
assert ours <= set(names), ours - set(names)
assert {
    "reskeras/py.typed",
    "tuning/py.typed",
    "tuning/report/page.html",
    f"{info}/licenses/LICENSE",
} <= set(names)
assert b"reskeras = reskeras.cli:main" in zipfile.ZipFile(wheel).read(f"{info}/entry_points.txt")
print(f"{wheel.name}: {len(names)} files")  # noqa: T201
