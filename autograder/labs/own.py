"""An instructor's own images and backbone: ``autograder/checks/<lab>/own.toml``, which students do not get.

The file has one table, with keys that replace those of the table of ``lab.toml`` with the lab's budget. ``autograder
use-data`` and ``autograder use-backbone`` write it. It is in force wherever a lab is graded, built or calibrated. What
students get stays as the lab ships it, so their own check trains on the images of the library.

Thresholds hold only for the images, the backbone and the budget that they were measured for. So each choice has
evidence of its own, in ``autograder/checks/<lab>/evidence/``, and without it nothing is built or graded.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, create_model

from amllab.image_folders import FolderError, digest_of
from amllab.kit.task import thresholds
from amllab.lab import Lab
from autograder.errors import SettingsError
from autograder.labs.calibrated import all_calibrated
from autograder.labs.locations import hidden_checks
from autograder.labs.settings import budget_module, problems_of

FILE = "own.toml"
HEAD = """\
# Written by 'autograder use-data' and 'autograder use-backbone', and read by graders only: students do not get this file.
# Every key replaces one of the same table of lab.toml. After a change, run 'autograder calibrate {lab}'.
"""


def own_file(lab: Lab) -> Path:
    """Return the path of the file with a lab's own images and backbone, whether it exists or not."""
    return hidden_checks(lab.name) / FILE


def own_table(lab: Lab) -> dict[str, Any]:
    """Return what replaces the lab's budget; empty if the lab is used as it ships.

    Raises:
        SettingsError: The file is wrong; the message names the line.
    """
    file, module = own_file(lab), budget_module(lab.name)
    if not file.is_file():
        return {}
    own: dict[str, Any] = {module.TABLE: (module.Own, ...)} if hasattr(module, "Own") else {}
    model: type[BaseModel] = create_model("OwnSettings", __config__={"extra": "forbid", "strict": True}, **own)
    text = file.read_text(encoding="utf-8")
    if problems := problems_of(text, f"{lab.name}/{FILE}", model):
        raise SettingsError("\n".join(problems))
    return dict(tomllib.loads(text)[module.TABLE])


def with_own(lab: Lab) -> Lab:
    """Return the lab with the instructor's own images and backbone, if there are any."""
    own = own_table(lab)
    if not own:
        return lab
    table = budget_module(lab.name).TABLE
    shipped = dict(lab.settings[table])
    if "data" in own:
        shipped.pop("photographs", None)  # the file says all that depends on the images
    name = name_of(own, shipped)
    evidence = hidden_checks(lab.name) / "evidence" / f"thresholds-{name}.json"
    return replace(lab, settings={**lab.settings, table: shipped | own}, own=name, evidence=evidence)


def name_of(own: dict[str, Any], shipped: dict[str, Any]) -> str:
    """Return the name of the evidence: of the images by their digest, and of the backbone."""
    images = f"images-{own['digest'][:10]}" if "data" in own else str(shipped["data"])
    return f"{images}-{own.get('backbone', shipped['backbone'])}".replace("/", "-")


def write_own(lab: Lab, values: dict[str, Any]) -> Path:
    """Write keys into the file, next to those that it has; ``None`` removes one. Without keys there is no file."""
    table, file = budget_module(lab.name).TABLE, own_file(lab)
    kept = {name: value for name, value in (own_table(lab) | values).items() if value is not None}
    if not kept:
        file.unlink(missing_ok=True)
        return file
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in kept.items()]
    file.write_text(HEAD.format(lab=lab.assignment) + f"\n[{table}]\n" + "".join(lines), encoding="utf-8")
    return file


def require_images(lab: Lab) -> None:
    """Reject a lab whose folder of images is gone, or has other images than when it was chosen.

    Raises:
        SettingsError: The message names the folder, and the command that chooses it again.
    """
    module = budget_module(lab.name)
    table = lab.settings.get(module.TABLE, {}) if lab.own else {}
    if "digest" not in table:
        return
    again = f"run 'autograder use-data {lab.assignment} FOLDER', then 'autograder calibrate {lab.assignment}'"
    try:
        found = digest_of(Path(table["data"]))
    except FolderError as error:
        raise SettingsError(f"{lab.name}/{FILE}: {error}; for other images, {again}") from None
    if found != table["digest"]:
        raise SettingsError(f"{lab.name}/{FILE}: the images in {table['data']} have changed: {again}")


def require_thresholds(lab: Lab) -> None:
    """Reject a lab whose thresholds were not measured for exactly its data and budget, before anything is graded.

    Raises:
        SettingsError: The message names the command that measures them.
    """
    module = budget_module(lab.name)
    if module is None or module.TABLE not in lab.settings:
        return
    require_images(lab)
    try:
        for declared in all_calibrated(lab):
            thresholds(declared.task)
    except ValueError as error:
        raise SettingsError(f"{lab.name}: {error}") from None
