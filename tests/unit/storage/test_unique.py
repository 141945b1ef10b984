# SPDX-License-Identifier: Apache-2.0

import concurrent.futures
import os
import re
from pathlib import PurePosixPath

from image_uploader_plugins.storage.places import beside, is_temporary
from image_uploader_plugins.storage.unique import unique


def test_names_are_hexadecimal_digits_that_a_temporary_file_may_have() -> None:
    name = unique()
    assert re.fullmatch(r"[0-9a-f]{32}", name)
    assert is_temporary(beside(PurePosixPath("a/b"), name).name)


def test_no_thread_gets_the_name_of_another() -> None:
    def some(_: int) -> list[str]:
        return [unique() for _ in range(2000)]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        names = [name for found in pool.map(some, range(8)) for name in found]
    assert len({*names}) == len(names) == 16_000


def test_no_process_gets_the_name_of_another() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, " ".join(unique() for _ in range(10)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        theirs = file.read().split()
    os.waitpid(child, 0)
    assert len(theirs) == 10
    assert {*theirs}.isdisjoint(unique() for _ in range(100))
