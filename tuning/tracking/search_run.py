"""The run of a search itself: found again in a store, or created."""

import hashlib
import json
from functools import cached_property
from typing import Any

from tuning.tracking.saved_view import saved_view, view_tag
from tuning.tracking.store import experiment_named, knows_views, open_store, served, view_link
from tuning.tracking.subject import Subject


class SearchRun:
    """Opens a store, and finds or creates the run of a search in it.

    Its experiment is that of `MLFLOW_EXPERIMENT_ID` or `MLFLOW_EXPERIMENT_NAME`, otherwise one
    named after the data.

    Args:
        uri: the store's address.
        subject: what was searched.
        caller: id of a run that the caller has active. If it is in this store, it becomes the
            search's own run, which the caller ends. If it already belongs to another search, or has
            other parameters of these names, the search's run becomes its child.
        live: whether the search is running.

    Attributes:
        name: the search's name.
        client: of MLflow.
        served: whether the store is behind a server.
        experiment: id.
        run_id: the id of the search's run.
        children: MLflow's runs of trials and final trainings from earlier sessions, oldest first.
        link: the page of this search, relative to the server's address.
    """

    def __init__(self, uri: str, subject: Subject, caller: str | None, *, live: bool) -> None:
        self._subject, self.name = subject, subject.name
        self.client, self.served = open_store(uri), served(uri)
        active = self._active(caller)
        found = self._found_runs()
        self.children = [run for run in found if run.data.tags["reskeras.kind"] != "search"]
        own = [run for run in found if run.data.tags["reskeras.kind"] == "search"]
        first = next(iter([*own, *self.children, *([active] if active is not None else [])]), None)
        self.experiment: str = (
            first.info.experiment_id
            if first is not None
            else experiment_named(self.client, uri, subject.data["name"])
        )
        self._callers = False
        """Whether the caller ends it."""
        if own:
            self.run_id: str = own[0].info.run_id
            self._callers = active is not None and self.run_id == active.info.run_id
            if live and not self._callers:
                self.client.update_run(self.run_id, status="RUNNING")
        else:
            self.run_id = self._made(active)
            for child in self.children:  # of a search's run that somebody deleted
                self.client.set_tag(child.info.run_id, "mlflow.parentRunId", self.run_id)
        self._tell()
        views = knows_views(uri)
        self.link = view_link(self.experiment, subject.search_id, subject.objective, views=views)
        if views:
            self.client.set_experiment_tag(
                self.experiment, view_tag(subject.search_id), saved_view(subject)
            )

    def end(self, status: str, when: int) -> None:
        """Ends it, at a time in milliseconds since 1970."""
        if not self._callers:
            self.client.set_terminated(self.run_id, status, end_time=when)

    def log_data(self, run_id: str) -> None:
        """Logs the data of a run."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.log_inputs(run_id, [self._dataset])
        except MlflowException:
            # If two searches bring the same new data to a store at once, one fails (MLflow 3.17: a
            # check, then an insertion).
            self.client.log_inputs(run_id, [self._dataset])

    @cached_property
    def _dataset(self) -> Any:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        data = self._subject.data
        dataset = Dataset(
            name=data["name"],
            # As short as MLflow's own
            digest=hashlib.sha256(self._subject.digest.encode()).hexdigest()[:8],
            source_type="reskeras",
            source=json.dumps({"data": data["source"], "digest": self._subject.digest}),
            profile=json.dumps(
                {
                    "images": data["sizes"],
                    "image_shape": data["image_shape"],
                    "classes": data["classes"],
                }
            ),
        )
        return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])

    def _active(self, run_id: str | None) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_run(run_id) if run_id else None
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None  # of another store

    def _found_runs(self) -> list[Any]:
        # Even if the environment names another experiment now.
        everywhere = [experiment.experiment_id for experiment in self.client.search_experiments()]
        runs: list[Any] = []
        page = None
        while page is None or page.token:
            query = f"tags.`reskeras.search_id` = '{self._subject.search_id}'"
            page = self.client.search_runs(everywhere, query, page_token=page and page.token)
            runs += page
        return sorted(runs, key=lambda run: run.info.start_time)

    def _made(self, active: Any) -> str:
        from mlflow.entities import RunTag
        from mlflow.tracking.context.registry import resolve_tags

        subject = self._subject
        self._callers = (
            active is not None
            and "reskeras.search_id" not in active.data.tags
            and all(
                active.data.params.get(name, value) == value
                for name, value in self._params().items()
            )
        )
        if self._callers:
            tags = [RunTag(name, value) for name, value in subject.tags("search").items()]
            self.client.log_batch(active.info.run_id, tags=tags)
            return str(active.info.run_id)
        # Adds the user and the commit
        made = resolve_tags(subject.tags("search") | {"mlflow.source.name": "reskeras tune"})
        if active is not None:
            made["mlflow.parentRunId"] = active.info.run_id
        start = int(subject.started * 1000)
        return str(
            self.client.create_run(
                self.experiment, start_time=start, run_name=subject.name, tags=made
            ).info.run_id
        )

    def _params(self) -> dict[str, str]:
        subject = self._subject
        params = {
            "oracle": subject.oracle,
            "objective": subject.objective,
            "epochs": subject.epochs,
            "seed": subject.seed,
            "data": subject.data["name"],
            "data_source": subject.data["source"],
            "data_digest": subject.digest,
        }
        if given := subject.data.get("options"):
            params["data_options"] = json.dumps(given)
        return {name: str(value) for name, value in params.items()}

    def _tell(self) -> None:
        """Sends the settings of the search; in every session, as an earlier one may have failed."""
        from mlflow.entities import Param

        subject = self._subject
        self.client.log_batch(
            self.run_id, params=[Param(name, value) for name, value in self._params().items()]
        )
        self.log_data(self.run_id)
        self.client.log_text(self.run_id, subject.space.dump(), "space.yaml")
        self.client.log_dict(self.run_id, subject.data, "data.json")
