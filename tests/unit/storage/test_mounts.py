# SPDX-License-Identifier: Apache-2.0
"""What the table of mounts says of locks."""

# ruff: noqa: E501 - lines as the kernel writes them

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest

from image_uploader_plugins.storage import mounts
from image_uploader_plugins.storage.mounts import Mount
from tests.support import mounts as mounting

# Lines as kernels from 3.10 to 6.12 write them; what is odd stands beside them.
TABLE = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
23 22 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
24 22 0:24 / /dev/shm rw,nosuid,nodev shared:3 - tmpfs tmpfs rw,inode64
30 22 0:40 / /nfs3 rw,relatime shared:9 - nfs filer:/vol rw,vers=3,rsize=1048576,hard,proto=tcp,mountproto=udp,local_lock=none,addr=192.0.2.1
31 22 0:41 / /nfs4 rw,relatime - nfs4 filer:/vol rw,vers=4.2,hard,proto=tcp,sec=sys,clientaddr=192.0.2.2,local_lock=none,addr=192.0.2.1
32 22 0:42 / /nolock rw,relatime - nfs filer:/vol rw,vers=3,nolock,proto=tcp,local_lock=all,addr=192.0.2.1
33 22 0:43 / /local\040flock rw,relatime - nfs filer:/vol rw,vers=3,local_lock=flock,addr=192.0.2.1
34 22 0:44 / /local-posix rw,relatime - nfs filer:/vol rw,vers=3,local_lock=posix,addr=192.0.2.1
35 22 0:45 / /cifs rw,relatime - cifs //server/share\040name rw,vers=3.1.1,cache=strict,username=me,uid=0,noforceuid
36 22 0:46 / /nobrl rw,relatime - cifs //server/share rw,vers=3.1.1,nobrl,uid=0
37 22 0:47 / /smb3 rw,relatime - smb3 //server/share rw,vers=3.1.1
38 22 0:48 / /ceph rw,relatime - ceph 192.0.2.1:6789:/ rw,name=admin,secret=<hidden>,acl
39 22 0:49 / /gluster rw,relatime - fuse.glusterfs server:/vol rw,user_id=0,group_id=0,allow_other,max_read=131072
40 22 0:50 / /lustre rw - lustre mgs@tcp:/scratch rw,flock,lazystatfs
41 22 0:51 / /lustre-local rw - lustre mgs@tcp:/scratch rw,localflock,lazystatfs
42 22 0:52 / /lustre-none rw - lustre mgs@tcp:/scratch rw,lazystatfs
43 22 0:53 / /sshfs rw,nosuid,nodev,relatime - fuse.sshfs me@server:/dir rw,user_id=1000,group_id=1000
44 22 0:54 / /s3fs rw,nosuid,nodev,relatime - fuse.s3fs s3fs rw,user_id=0,group_id=0,allow_other
45 22 0:55 / /rclone rw,nosuid,nodev,relatime - fuse.rclone remote:bucket rw,user_id=0,group_id=0
46 22 0:56 / /gcsfuse rw,nosuid,nodev,relatime - fuse.gcsfuse bucket rw,user_id=0,group_id=0
47 22 0:57 / /fuse rw,nosuid,nodev,relatime - fuse  rw,user_id=0,group_id=0
48 22 0:58 / /9p rw,relatime - 9p hostshare rw,sync,dirsync,access=client,trans=virtio
49 22 0:59 / /virtiofs rw,relatime - virtiofs share rw
50 22 8:17 / /ntfs rw,nosuid,nodev,relatime shared:77 - fuseblk /dev/sdb1 rw,user_id=0,group_id=0,default_permissions,blksize=4096
51 22 0:60 / /overlay rw,relatime - overlay overlay rw,lowerdir=/l1:/l2,upperdir=/u,workdir=/w,index=off
52 22 0:61 / /podman rw,nodev,relatime - fuse.fuse-overlayfs fuse-overlayfs rw,user_id=0,group_id=0,default_permissions,allow_other
53 22 0:62 /@data /btrfs rw,relatime shared:5 - btrfs /dev/sdc1 rw,space_cache=v2,subvolid=257,subvol=/@data
54 22 254:0 /srv/tree /bound rw,relatime master:1 propagate_from:2 - ext4 /dev/vda1 rw
55 31 0:41 /sub /nfs4/bound rw,relatime unbindable - nfs4 filer:/vol rw,vers=4.2,local_lock=none
56 22 253:7 / /unknown-disk rw,relatime - vxfs /dev/vx/dsk/dg/vol rw
57 22 0:63 / /unknown-net rw,relatime - panfs server rw
58 22 8:33 / /gfs2 rw,relatime - gfs2 /dev/sdd1 rw
59 22 8:34 / /gfs2-local rw,relatime - gfs2 /dev/sdd2 rw,localflocks
60 22 0:64 / /od\011d\012na\134me\043 rw,relatime - tmpfs none rw
61 22 0:65 / /zfs rw,noatime - zfs pool/data rw,xattr,noacl
62 22 8:49 / /xfs rw,relatime - xfs /dev/sde1 rw,attr2,inode64,noquota
63 22 0:66 / /over rw,relatime - nfs4 filer:/hidden rw,local_lock=none
64 63 8:50 / /over rw,relatime - ext4 /dev/sde2 rw
"""
MOUNTS = mounts.parse(TABLE)


def at(point: str) -> Mount:
    return next(mount for mount in MOUNTS if str(mount.point) == point)


def test_every_line_is_understood() -> None:
    assert [mount.number for mount in MOUNTS] == [22, 23, 24, *range(30, 65)]


@pytest.mark.parametrize(
    "line",
    ["", "22", "22 1 254:0 / / rw", "22 1 254:0 / / rw - ", "x y z / / rw - ext4 d rw", "- - - -"],
)
def test_what_is_no_line_is_passed_over(line: str) -> None:
    assert mounts.parse(f"{line}\n{TABLE}") == MOUNTS


LOCAL = (
    *("/", "/dev/shm", "/ntfs", "/overlay", "/podman", "/btrfs", "/bound"),  # noqa: S108
    *("/unknown-disk", "/od\td\nna\\me#", "/zfs", "/xfs"),
)
SHARED = (
    *("/nfs3", "/nfs4", "/cifs", "/smb3", "/ceph", "/gluster", "/lustre", "/gfs2", "/nfs4/bound"),
)
FLAWED = {
    "/nolock": "local_lock=all",
    "/local flock": "local_lock=flock",
    "/local-posix": "local_lock=posix",
    "/nobrl": "nobrl",
    "/lustre-local": "localflock",
    "/lustre-none": "without flock",
    "/gfs2-local": "localflocks",
    "/sshfs": "fuse.sshfs mounted at /sshfs",
    "/s3fs": "fuse.s3fs",
    "/rclone": "fuse.rclone",
    "/gcsfuse": "fuse.gcsfuse",
    "/fuse": "fuse mounted",
    "/9p": "9p",
    "/virtiofs": "virtiofs",
    "/unknown-net": "panfs",
}


@pytest.mark.parametrize("point", LOCAL)
def test_a_file_system_of_this_machine(point: str) -> None:
    assert at(point).is_local
    assert mounts.unshared(at(point), [at(point)]) is None


@pytest.mark.parametrize("point", SHARED)
def test_a_file_system_whose_locks_all_see(point: str) -> None:
    assert not at(point).is_local
    assert mounts.unshared(at(point), [at(point)]) is None


@pytest.mark.parametrize("point", FLAWED)
def test_a_file_system_whose_locks_nobody_else_sees(point: str) -> None:
    said = mounts.unshared(at(point), [at(point)])
    assert said
    assert FLAWED[point] in said
    assert f"mounted at {point}" in said
    assert said.isprintable()


@pytest.mark.parametrize("content", ["/nfs4", "/nolock", "/sshfs", "/ceph"])
def test_locks_of_this_machine_for_what_others_have_too(content: str) -> None:
    said = mounts.unshared(at("/xfs"), [at("/"), at(content)])
    assert said == (
        f"it is on {at(content)}, and its locks on xfs mounted at /xfs, "
        "which other machines do not have"
    )


def test_locks_that_all_see_for_what_is_here() -> None:
    assert mounts.unshared(at("/nfs4"), [at("/"), at("/xfs")]) is None


@pytest.mark.parametrize(
    ("path", "device", "point"),
    [
        ("/var/lib/image-serve", "254:0", "/"),
        ("/nfs4/a/b", "0:41", "/nfs4"),
        ("/nfs4/bound/b", "0:41", "/nfs4/bound"),
        ("/nfs40", "254:0", "/"),
        ("/bound/x", "254:0", "/bound"),
        ("/btrfs/sub/volume", "0:99", "/btrfs"),  # a subvolume's own device, listed nowhere
        ("/btrfs", "0:62", "/btrfs"),
        ("/local flock/x", "0:43", "/local flock"),
        ("/over/x", "8:50", "/over"),
        ("/od\td\nna\\me#/x", "0:64", "/od\td\nna\\me#"),
    ],
)
def test_the_mount_that_covers_a_path(path: str, device: str, point: str) -> None:
    found = mounts.covering(MOUNTS, PurePosixPath(path), device)
    assert found
    assert str(found.point) == point
    if path.startswith("/over/"):
        assert found.kind == "ext4"


def test_a_mount_that_is_hidden_by_another() -> None:
    """Something was mounted over /a after /a/b had been: what is at /a/b is on the new one."""
    table = mounts.parse(
        "1 0 8:1 / / rw - ext4 d rw\n2 1 0:5 / /a/b rw - nfs4 s rw\n3 1 8:2 / /a rw - xfs d rw\n"
    )
    found = mounts.covering(table, PurePosixPath("/a/b/c"), "8:2")
    assert found
    assert found.number == 3


def test_what_is_mounted_inside() -> None:
    inside = mounts.below(MOUNTS, PurePosixPath("/nfs4"))
    assert [str(mount.point) for mount in inside] == ["/nfs4/bound"]
    assert mounts.below(MOUNTS, PurePosixPath("/nfs40")) == []


def test_nobody_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mounts, "MOUNTINFO", tmp_path / "absent")
    assert mounts.read() == []


def found_at(path: Path) -> Mount:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        found = mounts.mount_of(mounts.read(), descriptor)
        assert found
        return found
    finally:
        os.close(descriptor)


def test_this_machines_own_table(tmp_path: Path) -> None:
    """A file system, one mounted in it, and the first bound to a place inside the second."""
    with mounting.tmpfs(tmp_path / "out er") as outer, mounting.tmpfs(outer / "inner") as inner:
        (outer / "folder").mkdir()
        (inner / "bound").mkdir()
        with mounting.bound(outer / "folder", inner / "bound"):
            (inner / "bound/deep").mkdir()
            places = (outer, inner / "bound/deep", inner)
            points = [Path(found_at(place).point) for place in places]
            assert points == [outer, inner / "bound", inner]
            assert {found_at(p).kind for p in (outer, inner)} == {"tmpfs"}
            assert found_at(outer).number != found_at(inner / "bound/deep").number
            below = {Path(mount.point) for mount in mounts.below(mounts.read(), outer)}
            assert below == {inner, inner / "bound"}


def test_the_same_without_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "mount_id", lambda descriptor: None)
    test_this_machines_own_table(tmp_path)
