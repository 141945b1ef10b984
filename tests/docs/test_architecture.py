# SPDX-License-Identifier: Apache-2.0
"""The page about the architecture names the rooms that there are, in the order of the rules."""

from __future__ import annotations

import configparser
import pkgutil
import re

import image_uploader_plugins
from tests.docs.console import SOURCE
from tests.support.checkout import PROJECT

PACKAGE = image_uploader_plugins.__name__


def rooms_of_the_page() -> list[str]:
    text = (SOURCE / "architecture.rst").read_text()
    table = text.partition("The rooms\n---------")[2].partition("Below ``driver`` there")[0]
    return re.findall(r"^   \* - ``(\w+)``$", table, re.MULTILINE)


def layers_of_the_rules() -> list[set[str]]:
    rules = configparser.ConfigParser()
    rules.read(PROJECT / ".importlinter")
    lines = rules["importlinter:contract:rooms"]["layers"].split()
    layers: list[set[str]] = []
    beside = False
    for word in lines:
        if word == "|":
            beside = True
            continue
        room = word.removeprefix(f"{PACKAGE}.")
        if beside:
            layers[-1].add(room)
        else:
            layers.append({room})
        beside = False
    return layers


def test_the_page_has_every_room() -> None:
    rooms = rooms_of_the_page()
    assert len(rooms) == len(set(rooms))
    assert set(rooms) == {
        module.name for module in pkgutil.iter_modules(image_uploader_plugins.__path__)
    }


def test_the_rules_have_every_room_in_the_order_of_the_page() -> None:
    rooms = rooms_of_the_page()
    for layer in layers_of_the_rules():
        assert set(rooms[: len(layer)]) == layer
        del rooms[: len(layer)]
    assert rooms == []
