# SPDX-License-Identifier: Apache-2.0
"""Each kind of registry in the table of doc/source/registries.rst, by its documented manners.

What is checked of all: an image arrives, and who was shown what.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.copying.copier import Copier
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.sources.image_name import ImageName
from image_uploader_plugins.sources.keychain import Keychain, Login, named
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.sources.registry_source import RegistrySource
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.sources.tries import Tries
from image_uploader_plugins.sources.trust import Trust
from image_uploader_plugins.testing import images
from tests.support import kinds, programs
from tests.support.checkout import PROJECT
from tests.support.kinds import EXPIRED, Kind, unauthorized
from tests.support.odd_registry import Asked, Reply, text

PAGE = PROJECT / "doc" / "source" / "registries.rst"
COPIED = RepositoryName("copied")
ROWS: dict[str, list[str]] = {}

Test = Callable[..., None]
Pull = Callable[..., LocalExportDriver]


def row(name: str) -> Callable[[Test], Test]:
    """Say which row of the docs' table a test is for."""

    def mark(test: Test) -> Test:
        ROWS.setdefault(name, []).append(test.__name__)
        return test

    return mark


def test_each_row_has_a_test() -> None:
    table = PAGE.read_text().partition("\nKinds of registries\n")[2]
    first, *rows = re.findall(r"^   \* - (.+)$", table, re.MULTILINE)
    assert first == "Registry"
    assert set(rows) == set(ROWS)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return kinds.certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def pull(
    pair: tuple[Path, Path],
    tmp_path: Path,
    driver: LocalExportDriver,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Pull]:
    """Copy a kind's image with the logins of a file, or named ones, and check that it came."""
    monkeypatch.setattr(Tries, "pause", lambda self, seconds: None)
    trust: dict[str, Any] = {"certificates": (), "environment": {"SSL_CERT_FILE": str(pair[0])}}
    with contextlib.ExitStack() as stack:

        def pull(
            kind: Kind,
            auth: dict[str, Any] | None = None,
            logins: dict[str, Login] | None = None,
            *,
            insecure: tuple[str, ...] = (),
            **settings: Any,
        ) -> LocalExportDriver:
            file = tmp_path / "auth.json"
            file.write_text(json.dumps(auth or {}))
            keychain = Keychain(logins, {"REGISTRY_AUTH_FILE": str(file)})
            settings = {"trust": Trust(insecure, **trust), **settings}
            registries = Registries(Settings(keychain=keychain, **settings))
            name = ImageName.parse(kind.name)
            with contextlib.closing(registries):
                source = RegistrySource(registries.registry(name.registry), str(name.repository))
                copier = Copier(driver, COPIED, source, options=CopyOptions())
                copier.copy(name.reference, Tag("1"), all_platforms=True)
            assert driver.resolve(ImageRef(COPIED, Tag("1"))) == kind.image.digest
            # What a server has a client remember is a way to follow it.
            assert not any(asked.headers["Cookie"] for asked in kind.registry.asked)
            return driver

        def start(kind: Kind, *arguments: Any, plain: int = 0, **more: Any) -> LocalExportDriver:
            stack.enter_context(kinds.answering(kind, pair, monkeypatch, plain))
            return pull(kind, *arguments, **more)

        yield start


def stored(login: Login | None, *keys: str) -> dict[str, Any]:
    """What ``podman login`` stores."""
    assert login
    return {"auths": {key: {"auth": login.basic.removeprefix("Basic ")} for key in keys}}


def helper(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    programs.credential_helper(folder, name, script)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


# -- Docker Hub


class DockerHub(Kind):
    name = "alpine:1"
    host = "registry-1.docker.io"
    repository = "library/alpine"
    realm = "https://auth.docker.io/token"
    service = "registry.docker.io"
    storage = "https://production.cloudflare.docker.com/registry-v2/docker/registry/v2/blobs"
    query = "expires=1&signature=S&version=2"
    limited = False

    def given(self, token: str) -> dict[str, Any]:
        life = {"expires_in": 300, "issued_at": "2026-01-01T00:00:00.123456789Z"}
        return {"token": token, "access_token": token, **life}

    def content(self, asked: Asked) -> Reply | None:
        if "/manifests/1" not in asked.path:
            return None
        if not self.limited:
            self.limited = True
            busy = (("Content-Type", "text/plain"), ("Retry-After", "0"))
            return Reply(429, busy, b"Too Many Requests (HAP429).\n\n")
        fields = (
            ("Content-Type", self.image.manifest.media_type),
            ("RateLimit-Limit", "100;w=21600"),
            ("RateLimit-Remaining", "76;w=21600"),
            ("Docker-RateLimit-Source", "192.0.2.1"),
        )
        return Reply(200, fields, self.image.manifest.content)


@pytest.mark.slow
@row("Docker Hub")
def test_docker_hub(pull: Pull) -> None:
    """Its tokens and its blobs come from elsewhere, and a limit is waited for."""
    hub = DockerHub()
    pull(hub, stored(hub.login, "https://index.docker.io/v1/"))
    assert hub.login
    assert hub.saw() == {
        "registry-1.docker.io": {None, *hub.bearers()},
        "auth.docker.io": {hub.login.basic},
        "production.cloudflare.docker.com": {None},
    }
    (asked,) = hub.asked_for_tokens()
    assert asked.query["service"] == ["registry.docker.io"]
    assert asked.query["scope"] == ["repository:library/alpine:pull"]


class HubMirror(DockerHub):
    host = "mirror.example"
    realm = "https://mirror.example/token"
    login = Login("mirrors", "own")


@pytest.mark.slow
@row("Docker Hub")
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_mirror_of_docker_hub(pull: Pull, slash: str) -> None:
    """It gets its own login, never that of Docker Hub."""
    mirror = HubMirror()
    both = {"docker.io": Login("hubs", "own"), "mirror.example": mirror.login}
    pull(mirror, logins=both, mirrors={"docker.io": f"https://mirror.example{slash}"})
    assert mirror.login
    assert mirror.saw()["mirror.example"] == {None, mirror.login.basic, *mirror.bearers()}


# -- quay.io and Red Hat


class Quay(Kind):
    name = "quay.io/org/app:1"
    host = "quay.io"
    repository = "org/app"
    realm = "https://quay.io/v2/auth"
    service = "quay.io"
    storage = "https://cdn01.quay.io/quayio-production-s3/sha256"
    query = "Expires=1&Signature=S&Key-Pair-Id=K"
    login = Login("org+robot", "secret")
    is_there = True

    def content(self, asked: Asked) -> Reply | None:
        if not self.is_there:
            message = "access to the requested resource is not authorized"
            body = {"errors": [{"code": "UNAUTHORIZED", "detail": {}, "message": message}]}
            return text(body, 401, ("WWW-Authenticate", self.challenge(self.repository)))
        if asked.path.endswith("/tags/list"):
            more = '</v2/org/app/tags/list?n=50&next_page=P>; rel="next"'
            return text({"name": "org/app", "tags": ["other"]}, 200, ("Link", more))
        return None


class RedHat(Quay):
    name = "registry.redhat.io/ubi9/ubi:1"
    host = "registry.redhat.io"
    repository = "ubi9/ubi"
    realm = "https://registry.redhat.io/auth/realms/rhcc/protocol/redhat-docker-v2/auth"
    service = "docker-registry"
    login = Login("1234567|robot", "ey.J.w")


@pytest.mark.slow
@row("quay.io, Red Hat's")
@pytest.mark.parametrize("kind", [Quay, RedHat])
def test_quay(pull: Pull, kind: type[Quay]) -> None:
    """A tag that is beyond the first page of tags is asked for by its name."""
    quay = kind()
    pull(quay, stored(quay.login, quay.host))
    assert quay.login
    assert quay.saw() == {
        quay.host: {None, quay.login.basic, *quay.bearers()},
        "cdn01.quay.io": {None},
    }
    assert quay.asked_for_tokens()[0].query["account"] == [quay.login.username]
    assert not quay.registry.paths("/tags/list")


@row("quay.io, Red Hat's")
def test_what_does_not_exist_at_quay(pull: Pull) -> None:
    quay = Quay()
    quay.is_there = False
    said = r"401 UNAUTHORIZED: access to.*not authorized \(credentials.*or there is no such image\)"
    with pytest.raises(errors.RegistryError, match=said):
        pull(quay, stored(quay.login, "quay.io"))
    assert len(quay.asked_for_tokens()) == 1


# -- GHCR


class Ghcr(Kind):
    name = "ghcr.io/org/app:1"
    host = "ghcr.io"
    repository = "org/app"
    realm = "https://ghcr.io/token"
    service = "ghcr.io"
    storage = "https://pkg-containers.githubusercontent.com/ghcr1/blobs"
    query = "se=1&sig=S&sp=r"
    login: Login | None = None

    def referrers(self, asked: Asked) -> Reply:
        page = "https://github.com/-/v2/packages/container/package/org%2Fapp%2Freferrers"
        return Reply(303, (("Location", page),))


@pytest.mark.slow
@row("GHCR")
@pytest.mark.parametrize("login", [None, Login("anybody", "ghp_x")])
def test_ghcr(pull: Pull, login: Login | None) -> None:
    """Without a login it gives a token, too; its referrers lead to a page, which is not asked."""
    ghcr = Ghcr()
    ghcr.login = login
    name = Tag(f"sha256-{ghcr.image.digest.encoded}.sig")
    signature = images.image(
        ghcr.repository, name.value, [images.layer({"s": b"s"}, oci=True)], oci=True
    )
    ghcr.image.blobs.update(signature.blobs)  # type: ignore[attr-defined]
    ghcr.registry.add(signature)
    driver = pull(ghcr, stored(login, "ghcr.io") if login else None)
    assert ghcr.saw() == {
        "ghcr.io": {None, *ghcr.bearers(), login and login.basic},
        "pkg-containers.githubusercontent.com": {None},
    }
    assert driver.resolve(ImageRef(COPIED, name)) == signature.digest


# -- Amazon


class Ecr(Kind):
    name = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app:1"
    host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
    repository = "team/app"
    storage = "https://prod-eu-west-1-starport-layer-bucket.s3.eu-west-1.amazonaws.com/1/2"
    query = "X-Amz-Security-Token=T&X-Amz-Signature=S"
    passwords = 0
    uses = 0

    def refusal(self, asked: Asked) -> Reply | None:
        """It takes the password itself, twice; an ended one is a 403 without a challenge."""
        if asked.authorization is None:
            return unauthorized(f'Basic realm="https://{self.host}/",service="ecr.amazonaws.com"')
        self.uses = self.uses + 1 if asked.authorization == self.last else 1
        self.last = asked.authorization
        return text({"errors": [EXPIRED]}, 403) if self.uses > 2 else None

    last: str | None = None


@pytest.mark.slow
@row("Amazon ECR")
def test_ecr(pull: Pull, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords that have ended are renewed by the helper."""
    count = tmp_path / "count"
    script = f"""echo >> {count}
        printf '{{"ServerURL":"%s","Username":"AWS","Secret":"%s"}}' "$(cat)" $(wc -l < {count})"""
    helper(tmp_path, "ecr-login", script, monkeypatch)
    ecr = Ecr()
    pull(ecr, {"credHelpers": {ecr.host: "ecr-login"}})
    shown = ecr.saw()
    assert shown.pop(urllib.parse.urlsplit(ecr.storage).netloc) == {None}
    given = {Login("AWS", str(n + 1)).basic for n in range(len(count.read_text()))}
    # What two threads have asked for at once, one may not need.
    assert shown.pop(ecr.host) - given == {None}
    assert not shown
    assert len(given) > 2


class EcrPublic(Kind):
    name = "public.ecr.aws/alias/app:1"
    host = "public.ecr.aws"
    repository = "alias/app"
    realm = "https://public.ecr.aws/token/"
    service = "public.ecr.aws"
    storage = "https://d5l0dvt14r5h8.cloudfront.net"
    login: Login | None = None
    uses = 0

    def challenge(self, repository: str) -> str:
        return f'Bearer realm="{self.realm}",service="{self.service}",scope="aws"'

    def refusal(self, asked: Asked) -> Reply | None:
        """A token that is not good, and any password, is a 400 without a challenge."""
        if asked.authorization is None:
            return unauthorized(self.challenge(self.repository))
        self.uses += 1
        is_over = self.uses % 4 == 0
        good = asked.authorization == f"Bearer {self.tokens[-1]}"
        if is_over:
            self.tokens.append("over")
        return None if good and not is_over else text({"errors": [EXPIRED]}, 400)


@pytest.mark.slow
@row("Amazon ECR Public")
def test_ecr_public(pull: Pull) -> None:
    """One token, whose scope is not a repository's, is for all; it may end in any of them."""
    public = EcrPublic()
    pull(public)
    assert public.saw() == {
        "public.ecr.aws": {None, *public.bearers()} - {"Bearer over"},
        "d5l0dvt14r5h8.cloudfront.net": {None},
    }
    assert all(asked.query["scope"] == ["aws"] for asked in public.asked_for_tokens())
    assert public.tokens.count("over") > 1


# -- Azure


class Acr(Kind):
    name = "team.azurecr.io/app:1"
    host = "team.azurecr.io"
    repository = "app"
    realm = "https://team.azurecr.io/oauth2/token"
    service = "team.azurecr.io"
    storage = "https://eusmanaged1.blob.core.windows.net/c//docker/registry/v2/blobs/sha256"
    query = "se=1&sig=S&sp=r&sr=b"
    login: Login | None = None

    def refusal(self, asked: Asked) -> Reply | None:
        """It offers Basic, too, and may mean it not."""
        refused = super().refusal(asked)
        bearer = self.challenge(self.repository) + ',error="invalid_token"'
        return refused and unauthorized(bearer, 'Basic realm="https://team.azurecr.io/"')

    def token(self, asked: Asked) -> Reply:
        form = urllib.parse.parse_qs(asked.body.decode())
        if asked.method != "POST" or asked.authorization:
            return Reply(401)
        assert form["grant_type"] == ["refresh_token"]
        assert form["refresh_token"] == ["I"]
        assert form["service"] == ["team.azurecr.io"]
        assert form["scope"] == ["repository:app:pull"]
        return text({"access_token": self.new_token()})


@pytest.mark.slow
@row("Azure (ACR)")
@pytest.mark.parametrize("helped", [False, True])
def test_acr(pull: Pull, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helped: bool) -> None:
    """An identity token is posted, and shown nowhere else."""
    acr = Acr()
    nobody = stored(Login("00000000-0000-0000-0000-000000000000", ""), acr.host)
    nobody["auths"][acr.host]["identitytoken"] = "I"
    helper(tmp_path, "acr-env", 'echo \'{"Username":"<token>","Secret":"I"}\'', monkeypatch)
    pull(acr, {"credsStore": "acr-env"} if helped else nobody)
    assert acr.saw() == {
        "team.azurecr.io": {None, *acr.bearers()},
        "eusmanaged1.blob.core.windows.net": {None},
    }


# -- Google


class Gar(Kind):
    name = "europe-docker.pkg.dev/project/repo/app:1"
    host = "europe-docker.pkg.dev"
    repository = "project/repo/app"
    realm = "https://europe-docker.pkg.dev/v2/token"
    service = "europe-docker.pkg.dev"

    def ping(self, asked: Asked) -> Reply | None:
        """Here, its challenge has a realm and nothing more."""
        return unauthorized(f'Bearer realm="{self.realm}"')

    def content(self, asked: Asked) -> Reply | None:
        if "/blobs/" not in asked.path:
            return None
        where = "/artifacts-downloads/namespaces/project/repositories/repo/downloads/"
        return Reply(302, (("Location", f"{where}{asked.path.rpartition('/')[2]}?{self.query}"),))

    def below(self, asked: Asked) -> Reply | None:
        if asked.path.startswith("/artifacts-downloads/"):
            return Reply(body=self.image.blobs[Digest(asked.path.rpartition("/")[2])])
        return super().below(asked)


KEY = json.dumps({"type": "service_account", "private_key": "-----BEGIN\n:\n"}, indent=2)


@pytest.mark.slow
@row("Google (GAR)")
@pytest.mark.parametrize("user", ["_dcgcloud_token", "oauth2accesstoken", "_json_key"])
def test_gar(pull: Pull, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str) -> None:
    """By a helper, by an access token, or by a key in JSON; blobs are redirected to itself."""
    gar = Gar()
    gar.login = Login(user, KEY if user == "_json_key" else "ya29.x")
    script = f'echo \'{{"Username":"{user}","Secret":"ya29.x"}}\''
    helper(tmp_path, "gcloud", script, monkeypatch)
    if user == "_dcgcloud_token":
        pull(gar, {"credHelpers": {gar.host: "gcloud"}})
    else:
        pull(gar, logins=named({gar.host: {user: gar.login.password}}, "P"))
    assert gar.saw() == {gar.host: {None, gar.login.basic, *gar.bearers()}}
    assert gar.asked_for_tokens()[0].query["service"] == [gar.service]


# -- what people run themselves


class Harbor(Kind):
    name = "harbor.example/project/sub/app:1"
    host = "harbor.example"
    repository = "project/sub/app"
    realm = "https://harbor.example/service/token"
    service = "harbor-registry"
    login = Login("robot$project+puller", "secret")

    def refusal(self, asked: Asked) -> Reply | None:
        """Who comes with its cookie is whom the cookie is for."""
        if asked.headers["Cookie"]:
            return unauthorized(self.challenge(self.repository))
        refused = super().refusal(asked)
        cookies = (("Set-Cookie", "sid=S; Path=/; HttpOnly"), ("Set-Cookie", "_gorilla_csrf=C"))
        return refused and Reply(refused.status, refused.headers + cookies, refused.body)

    def token(self, asked: Asked) -> Reply:
        given = super().token(asked)
        return Reply(given.status, (("Set-Cookie", "sid=T; Path=/; HttpOnly"),), given.body)

    def given(self, token: str) -> dict[str, Any]:
        life = {"expires_in": 1800, "issued_at": "2026-01-01T00:00:00Z"}
        return {"token": token, "access_token": "", **life}


@pytest.mark.slow
@row("Harbor")
def test_harbor(pull: Pull) -> None:
    """A robot's name is what yaml makes of it, and a session that Harbor begins is not kept."""
    harbor = Harbor()
    entries = yaml.safe_load("harbor.example: {robot$project+puller: secret}")
    pull(harbor, logins=named(entries, "ContainerImageRegistryCredentials"))
    assert harbor.login
    assert harbor.saw() == {"harbor.example": {None, harbor.login.basic, *harbor.bearers()}}
    assert len(harbor.asked_for_tokens()) == 1


class SlowHarbor(Harbor):
    def content(self, asked: Asked) -> None:
        time.sleep(0.3)


@pytest.mark.slow
@row("Harbor")
def test_a_harbor_that_asks_others_first(pull: Pull) -> None:
    """It answers late, which is no failure as long as it is waited for."""
    harbor = SlowHarbor()
    login = stored(harbor.login, "harbor.example")
    with pytest.raises(errors.RegistryUnreachable, match="timed out"):
        pull(harbor, login, read_timeout=0.1)
    pull(harbor, login)


class GitLab(Kind):
    name = "registry.gitlab.example/group/project/app:1"
    host = "registry.gitlab.example"
    repository = "group/project/app"
    realm = "https://gitlab.example/jwt/auth"
    service = "container_registry"
    storage = "https://storage.googleapis.com/bucket"
    login = Login("gitlab+deploy-token-1", "gldt-x")


@pytest.mark.slow
@row("GitLab")
def test_gitlab(pull: Pull) -> None:
    """Its token server is another host, and sees the login; the registry itself never does."""
    gitlab = GitLab()
    others = stored(Login("another", "groups"), "registry.gitlab.example")
    others["auths"].update(stored(gitlab.login, "registry.gitlab.example/group")["auths"])
    pull(gitlab, others)
    assert gitlab.login
    assert gitlab.saw() == {
        "registry.gitlab.example": {None, *gitlab.bearers()},
        "gitlab.example": {gitlab.login.basic},
        "storage.googleapis.com": {None},
    }


class GitLabInTheClear(GitLab):
    realm = "http://gitlab.example/jwt/auth"


@row("GitLab")
def test_gitlab_whose_token_server_is_on_http(pull: Pull) -> None:
    gitlab = GitLabInTheClear()
    with pytest.raises(errors.RegistryUnreachable, match="not asked in the clear: http://gitlab"):
        pull(gitlab, stored(gitlab.login, gitlab.host), plain=80)
    assert set(gitlab.saw()) == {gitlab.host}


class Artifactory(Kind):
    name = "artifactory.example/docker-virtual/team/app:1"
    host = "artifactory.example"
    repository = "docker-virtual/team/app"
    realm = "https://artifactory.example/artifactory/api/docker/docker-virtual/v2/token"
    service = "artifactory.example:443"
    storage = "https://bucket.s3.eu-west-1.amazonaws.com/artifactory/filestore"
    query = "X-Artifactory-username=u&X-Amz-Signature=S"

    def given(self, token: str) -> dict[str, Any]:
        return {"token": token, "expires_in": 3600}

    def content(self, asked: Asked) -> Reply | None:
        """A manifest comes without its digest."""
        if not asked.path.endswith("/manifests/1"):
            return None
        return Reply(
            200, (("Content-Type", media_types.OCI_MANIFEST),), self.image.manifest.content
        )


@pytest.mark.slow
@row("Artifactory")
def test_artifactory(pull: Pull) -> None:
    """A repository of its is the first part of the path, with a token server of its own."""
    artifactory = Artifactory()
    pull(artifactory, stored(artifactory.login, "artifactory.example/docker-virtual"))
    assert artifactory.login
    assert artifactory.saw() == {
        "artifactory.example": {None, artifactory.login.basic, *artifactory.bearers()},
        "bucket.s3.eu-west-1.amazonaws.com": {None},
    }
    (asked,) = artifactory.asked_for_tokens()
    assert asked.query["scope"] == ["repository:docker-virtual/team/app:pull"]


class Nexus(Kind):
    name = "nexus.example:8082/team/app:1"
    host = "nexus.example:8082"
    repository = "team/app"
    challenges = ('BASIC realm="Sonatype Nexus Repository Manager"',)

    def ping(self, asked: Asked) -> Reply | None:
        return None

    def refusal(self, asked: Asked) -> Reply | None:
        assert self.login
        good = asked.authorization == self.login.basic
        return None if good else unauthorized(*self.challenges)

    def referrers(self, asked: Asked) -> Reply | None:
        return Reply(404, (("Content-Type", "text/html"),), b"<!DOCTYPE html><html></html>")


class Zot(Nexus):
    name = "zot.example/team/app:1"
    host = "zot.example"
    challenges = ('Basic realm="zot"',)

    def __init__(self) -> None:
        super().__init__()
        described = {"mediaType": media_types.OCI_MANIFEST, "digest": str(self.image.digest)}
        subject = {**described, "size": len(self.image.manifest.content)}
        self.referrer = images.artifact(
            self.repository, None, "application/vnd.example.signature", b"s", subject=subject
        )
        self.registry.add(self.referrer)

    def ping(self, asked: Asked) -> Reply:
        """It is open, and has a challenge all the same."""
        return Reply(200, tuple(("WWW-Authenticate", field) for field in self.challenges), b"{}")

    def referrers(self, asked: Asked) -> Reply | None:
        listed = [self.referrer.descriptor()] if str(self.image.digest) in asked.path else []
        body = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": listed}
        return text(body, 200, ("Content-Type", media_types.OCI_INDEX))


@pytest.mark.slow
@row("Nexus, zot")
@pytest.mark.parametrize("kind", [Nexus, Zot])
def test_an_open_ping(pull: Pull, kind: type[Nexus]) -> None:
    """What the repository answers counts; a list of referrers is used where there is one."""
    nexus = kind()
    driver = pull(nexus, stored(nexus.login, nexus.host))
    assert nexus.login
    assert nexus.saw() == {nexus.host: {None, nexus.login.basic}}
    if isinstance(nexus, Zot):
        assert driver.resolve(ImageRef(COPIED, nexus.referrer.digest))


class DockerRegistry(Nexus):
    name = "registry.example:5000/team/app:1"
    host = "registry.example:5000"
    challenges = ('Basic realm="Registry Realm"',)

    def ping(self, asked: Asked) -> Reply | None:
        return self.refusal(asked)


@pytest.mark.slow
@row("docker-registry")
def test_docker_registry(pull: Pull) -> None:
    registry = DockerRegistry()
    pull(registry, stored(registry.login, registry.host))
    assert registry.login
    assert registry.saw() == {registry.host: {None, registry.login.basic}}
    bare = [asked.path for asked in registry.registry.asked if not asked.authorization]
    assert bare == ["/v2/team/app/manifests/1"]


@pytest.mark.slow
@row("docker-registry")
def test_docker_registry_in_plain_http(pull: Pull) -> None:
    registry = DockerRegistry()
    auth = stored(registry.login, registry.host)
    with pytest.raises(
        errors.RegistryUnreachable, match=r"name registry\.example:5000 in .*insecure"
    ):
        pull(registry, auth, plain=5000)
    assert registry.registry.asked == []
    pull(registry, auth, plain=5000, insecure=(registry.host,))
    assert registry.login
    assert registry.saw() == {registry.host: {None, registry.login.basic}}
