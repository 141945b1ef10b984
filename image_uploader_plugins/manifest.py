# SPDX-License-Identifier: Apache-2.0
"""Manifests, parsed without changing a byte of their content.

Sources: OCI image-spec 1.1.1 (manifest.md, image-index.md, descriptor.md),
Docker "Image Manifest Version 2, Schema 1" and "Schema 2".
"""

from __future__ import annotations

import binascii
import contextlib
import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from image_uploader_plugins import errors, media_types, strict_json
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.strict_json import Fields
from image_uploader_plugins.text import shown

# The kinds of manifests, as clients see them.
IMAGE = "image"
LIST = "list"
ARTIFACT = "artifact"
SCHEMA1 = "schema 1"

# OCI distribution-spec 1.1, "Pushing Manifests": registries should accept
# manifests of 4 mebibytes, clients should not send larger ones.
SIZE_LIMIT = 4 * 1024 * 1024

# RFC 6838, section 4.2: restricted-name "/" restricted-name.
_MEDIA_TYPE = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126})/(?:[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126})"
)

# All fields that this module reads or that clients act upon, at any level.
_NAMES = frozenset(
    {
        *("schemaVersion", "mediaType", "artifactType", "annotations", "subject"),
        *("config", "layers", "manifests", "fsLayers", "blobSum", "signatures", "history"),
        *("digest", "size", "urls", "data", "platform", "architecture", "os"),
    }
)
_PLAIN = frozenset({"mediaType", "digest", "size"})
_REFERENCE_TYPE = "vnd.docker.reference.type"
_REFERENCE_DIGEST = "vnd.docker.reference.digest"

_PLATFORM = re.compile(r"[\w.-]+/[\w.-]+(?:/[\w.-]+)?", re.ASCII)
_PLATFORM_FORM = "OS/ARCHITECTURE[/VARIANT], for example linux/amd64 or linux/arm/v7"
# NOTE: containerd's platforms package (database.go): other names, each with the variant that it
# stands for, and what a variant, or none, means.
_ARCHITECTURES = {
    "i386": ("386", ""),
    "x86_64": ("amd64", None),
    "x86-64": ("amd64", None),
    "aarch64": ("arm64", None),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_VARIANTS = {
    "amd64": {"v1": ""},
    "arm64": dict.fromkeys(("8", "8.0", "v8", "v8.0"), "")
    | dict.fromkeys(("9", "9.0", "v9.0"), "v9"),
    "arm": {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"},
}
_LARGEST = 2**63 - 1  # clients keep a size in an int64 (descriptor.md)


def is_media_type(text: object) -> bool:
    """Return whether a text is a media type (RFC 6838)."""
    return isinstance(text, str) and _MEDIA_TYPE.fullmatch(text) is not None


@dataclasses.dataclass(frozen=True)
class Platform:
    """The platform of an entry in an index; the text is as written and follows no grammar."""

    architecture: str | None = None
    os: str | None = None
    variant: str | None = None

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Return the platform ``os/architecture[/variant]``, normalised.

        Raises InvalidReference for any other form.
        """
        if not isinstance(text, str) or not _PLATFORM.fullmatch(text):
            raise errors.InvalidReference(
                f"not a platform: {shown(text)}; one has the form {_PLATFORM_FORM}"
            )
        system, architecture, *variant = text.split("/")
        return cls(architecture, system, *variant).normalised()

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))

    def normalised(self) -> Platform:
        """Return the platform under the name that all its names stand for.

        These are the names of containerd's platforms package: ``x86_64`` is
        ``amd64``, ``arm64/v8`` is ``arm64``, and ``arm`` is ``arm/v7``.  An
        architecture without a system is one of Linux.
        """
        architecture, variant = (self.architecture or "").lower(), (self.variant or "").lower()
        if architecture in _ARCHITECTURES:
            architecture, implied = _ARCHITECTURES[architecture]
            variant = variant if implied is None else implied
        variant = _VARIANTS.get(architecture, {}).get(variant, variant)
        system = (self.os or (architecture and "linux")).lower()
        return Platform(
            architecture or None, {"macos": "darwin"}.get(system, system) or None, variant or None
        )

    def fits(self, wanted: Platform) -> bool:
        """Return whether who wants ``wanted`` means this platform.

        It is the same one under any of its names; a better or a worse variant
        is another platform.  Versions of a system are not compared.
        """
        return self.normalised() == wanted.normalised()

    def as_dict(self) -> dict[str, Any]:
        """Return the known fields as JSON has them."""
        return {name: text for name, text in dataclasses.asdict(self).items() if text is not None}


@dataclasses.dataclass(frozen=True)
class Descriptor:
    """The media type, digest and size in bytes of stored content.

    ``size`` is None for the layers of a schema 1 manifest, which does not
    record sizes. ``urls`` names other places that the content may come from; a
    registry need not hold it (OCI image-spec, descriptor.md).
    ``is_attestation`` says of an entry in an index that it describes another
    entry and runs on no platform, and ``described`` which one that is, None if
    it does not tell (BuildKit, "Image attestation storage").
    Raises ManifestInvalid for a media type outside RFC 6838 or an impossible
    size.
    """

    media_type: str
    digest: Digest
    size: int | None
    urls: tuple[str, ...] = ()
    platform: Platform = Platform()
    artifact_type: str | None = None
    is_attestation: bool = False
    described: Digest | None = None

    def __post_init__(self) -> None:
        if not is_media_type(self.media_type):
            raise errors.ManifestInvalid(f"not a media type (RFC 6838): {shown(self.media_type)}")
        if self.size is not None and not (type(self.size) is int and 0 <= self.size <= _LARGEST):
            raise errors.ManifestInvalid(f"not a size in bytes: {shown(self.size)}")

    @classmethod
    def parse(cls, fields: object) -> Descriptor:
        """Return the descriptor in these fields; raise ManifestInvalid or InvalidReference."""
        if not isinstance(fields, dict):
            raise errors.ManifestInvalid("a descriptor must be an object")
        is_plain = fields.keys() == _PLAIN
        if not is_plain:
            strict_json.check_names(fields, _NAMES)
        size = fields.get("size")
        plain = (
            fields.get("mediaType", ""),
            Digest(fields.get("digest", "")),
            -1 if size is None else size,
        )
        if is_plain:
            return cls(*plain)
        described = cls(
            *plain,
            _urls(fields),
            _platform(fields),
            _text(fields, "artifactType"),
            *_reference(_object(fields, "annotations")),
        )
        _check_data(fields, described)
        return described

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them (descriptor.md), but no mark of an attestation."""
        fields: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest.value}
        optional = {
            "size": self.size,
            "urls": list(self.urls) or None,
            "platform": self.platform.as_dict() or None,
            "artifactType": self.artifact_type,
        }
        return fields | {name: value for name, value in optional.items() if value is not None}

    @property
    def names_platform(self) -> bool:
        """Return whether an entry of an index says what it is for."""
        return self.platform.normalised() != Platform()

    @property
    def runs_nowhere(self) -> bool:
        """Return whether an entry of an index is not an image that can run."""
        return self.is_attestation or str(self.platform).startswith("unknown/")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A manifest of any kind; ``content`` holds the original bytes.

    ``layers`` are in the manifest's order. ``manifests`` is empty except for an
    index or list. ``artifact_type`` and ``annotations`` are as written and need
    not follow any grammar. ``told`` is the digest that the manifest's source
    gives it, if any.
    """

    content: bytes = dataclasses.field(repr=False)
    media_type: str
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    subject: Descriptor | None = None
    artifact_type: str | None = None
    annotations: tuple[tuple[str, str], ...] = ()
    declares_type: bool = True
    told: Digest | None = dataclasses.field(default=None, compare=False)

    @classmethod
    def parse(cls, content: bytes, media_type: str | None = None) -> Manifest:
        """Return the manifest in ``content``, which must be of ``media_type`` unless that is None.

        Content that declares no type gets ``media_type`` or, if that is None,
        OCI's type.

        Raises ManifestInvalid for anything a registry must not serve: over 4
        MiB, not a JSON object, a type that is unknown or contradicts the
        content, an image and an index at once (CVE-2021-41190), broken
        descriptors.
        """
        fields = _load(content)
        declared = _declared_type(fields, media_type)
        if {declared, media_type} == media_types.SCHEMA1_TYPES:
            declared = str(media_type)  # registries give a signed schema 1 under either name
        if media_type not in (None, declared):
            raise errors.ManifestInvalid(
                f"manifest is {declared}, but was given as {shown(media_type)}"
            )
        try:
            declares = bool(fields.get("mediaType")) or fields["schemaVersion"] == 1
            references = _references(fields, declared)
            parsed = cls(content, declared, declares_type=declares, **references)
        except errors.InvalidReference as e:
            raise errors.ManifestInvalid(str(e)) from e
        blobs = [*parsed.layers, *filter(None, [parsed.config])]
        _check_agreement("size", ((d.digest, d.size) for d in (*blobs, *parsed.manifests)))
        # Only manifests: they declare their own type, while a blob may have several.
        _check_agreement("type", ((d.digest, d.media_type) for d in parsed.manifests))
        return parsed

    @property
    def is_index(self) -> bool:
        """Return whether this is an OCI index or a manifest list."""
        return self.media_type in media_types.INDEX_TYPES

    @property
    def kind(self) -> str:
        """Return what kind of image clients get: IMAGE, LIST, ARTIFACT or SCHEMA1."""
        if self.is_index:
            return LIST
        if self.media_type in media_types.SCHEMA1_TYPES:
            return SCHEMA1
        config = self.config.media_type if self.config else None
        return IMAGE if config in media_types.CONFIG_TYPES else ARTIFACT

    @property
    def artifact_types(self) -> frozenset[str]:
        """Return the types that an artifact goes by: its artifactType, or that of its config.

        Where that is the config of any image, as in what cosign writes, they
        are those of the layers (cosign, "Signature Specification").
        """
        found = self.artifact_type or (self.config.media_type if self.config else self.media_type)
        if found in media_types.UNTELLING_TYPES and self.artifact_type is None:
            return frozenset(layer.media_type for layer in self.layers)
        return frozenset({found})

    @property
    def digest(self) -> Digest:
        """Return the SHA-256 digest of the content, by which the manifest is known."""
        return Digest.of(self.content)

    def blobs(self) -> Iterator[Descriptor]:
        """Yield the blobs that the repository must hold: config and layers, each digest once."""
        seen = set()  # of texts, whose hashes are much faster
        for descriptor in (self.config, *self.layers):
            if descriptor and not descriptor.urls and descriptor.digest.value not in seen:
                seen.add(descriptor.digest.value)
                yield descriptor

    def default(
        self, architecture: str, present: frozenset[Digest] | None = None
    ) -> Descriptor | None:
        """Return the entry for clients that know no lists, of those ``present`` or (None) of all.

        It is the first image for ``architecture`` (linux before others, and a
        variant that runs on every machine before those that need v2 or v3),
        else the first image; None where there is no image.
        """
        images = [
            d
            for d in self.manifests
            if (present is None or d.digest in present)
            and d.media_type in media_types.IMAGE_TYPES
            and not d.runs_nowhere
        ]

        def preference(descriptor: Descriptor) -> tuple[bool, bool, str]:
            platform = descriptor.platform.normalised()
            fits = platform.architecture == architecture
            return not fits, fits and platform.os != "linux", fits * (platform.variant or "")

        return min(images, key=preference, default=None)


def image_fields(media_type: str, config: Fields, layers: Iterable[Fields]) -> dict[str, Any]:
    """Return the manifest of an image of these descriptors, as JSON has it (manifest.md)."""
    return {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": config,
        "layers": list(layers),
    }


def index_fields(
    manifests: Iterable[Mapping[str, Any]], media_type: str = media_types.OCI_INDEX
) -> dict[str, Any]:
    """Return an index or list of these descriptors, as JSON has it (image-index.md)."""
    return {"schemaVersion": 2, "mediaType": media_type, "manifests": list(manifests)}


def write_image(media_type: str, config: Descriptor, layers: Iterable[Descriptor]) -> bytes:
    """Return a manifest for an image that has none; the bytes are the same every time."""
    fields = image_fields(media_type, _size_first(config), map(_size_first, layers))
    return json.dumps(fields, indent=2).encode()


def _size_first(descriptor: Descriptor) -> dict[str, Any]:
    # NOTE: Docker's order, which also keeps the digests of manifests that are in trees.
    fields = descriptor.as_dict()
    return {name: fields.pop(name) for name in ("mediaType", "size") if name in fields} | fields


def _load(content: bytes) -> Fields:
    if len(content) > SIZE_LIMIT:
        raise errors.ManifestInvalid(
            f"manifest has {len(content)} bytes, the limit is {SIZE_LIMIT}"
        )
    return strict_json.load(content)


def _declared_type(fields: Fields, told: str | None) -> str:
    strict_json.check_names(fields, _NAMES)
    version = fields.get("schemaVersion")
    if type(version) is not int or version not in (1, 2):
        raise errors.ManifestInvalid(f"unknown schemaVersion {shown(version)} in the manifest")
    if version == 1:
        is_signed = bool(_list(fields, "signatures"))
        implied = media_types.DOCKER_SCHEMA1_SIGNED if is_signed else media_types.DOCKER_SCHEMA1
        return _known_type(fields, implied, media_types.SCHEMA1_TYPES)
    # Only the OCI types may go unnamed (image-spec, manifest.md: mediaType SHOULD be used).
    is_index = fields.get("manifests") is not None
    implied = media_types.OCI_INDEX if is_index else media_types.OCI_MANIFEST
    kinds = media_types.INDEX_TYPES if is_index else media_types.IMAGE_TYPES
    if told in kinds:
        implied = str(told)
    return _known_type(fields, implied, media_types.IMAGE_TYPES | media_types.INDEX_TYPES)


def _known_type(fields: Fields, implied: str, known: frozenset[str]) -> str:
    declared = _text(fields, "mediaType") or implied
    if declared not in known:
        raise errors.ManifestInvalid(
            f"unknown manifest type {shown(declared)} of schemaVersion {fields['schemaVersion']}"
        )
    return declared


def _references(fields: Fields, media_type: str) -> dict[str, Any]:
    if media_type in media_types.SCHEMA1_TYPES:
        _refuse(fields, media_type, ("config", "layers", "manifests", "subject"))
        return {"layers": tuple(_schema1_layers(fields))}
    subject = fields.get("subject")
    annotations = _object(fields, "annotations").items()
    result: dict[str, Any] = {
        "subject": None if subject is None else Descriptor.parse(subject),
        "artifact_type": _text(fields, "artifactType"),
        # image-spec, annotations.md: values MUST be strings.
        "annotations": tuple((name, text) for name, text in annotations if isinstance(text, str)),
    }
    if media_type in media_types.INDEX_TYPES:
        _refuse(fields, media_type, ("config", "layers", "fsLayers"))
        return result | {"manifests": _descriptors(fields, "manifests")}
    _refuse(fields, media_type, ("manifests", "fsLayers"))
    return result | {
        "config": Descriptor.parse(fields.get("config")),
        "layers": _descriptors(fields, "layers"),
    }


def _schema1_layers(fields: Fields) -> Iterator[Descriptor]:
    for layer in _list(fields, "fsLayers"):
        if not isinstance(layer, dict):
            raise errors.ManifestInvalid("an entry of fsLayers must be an object")
        strict_json.check_names(layer, _NAMES)
        yield Descriptor(media_types.OCTET_STREAM, Digest(layer.get("blobSum", "")), None)


def _refuse(fields: Fields, media_type: str, names: tuple[str, ...]) -> None:
    for name in names:
        if fields.get(name) is not None:
            raise errors.ManifestInvalid(f"a manifest of type {media_type} cannot have {name!r}")


def _descriptors(fields: Fields, name: str) -> tuple[Descriptor, ...]:
    return tuple(map(Descriptor.parse, _list(fields, name)))


def _urls(fields: Fields) -> tuple[str, ...]:
    urls = _list(fields, "urls")
    if not all(isinstance(url, str) for url in urls):
        raise errors.ManifestInvalid("'urls' in a manifest has the wrong type")
    return tuple(urls)


def _platform(fields: Fields) -> Platform:
    platform = _object(fields, "platform")
    strict_json.check_names(platform, _NAMES)
    return Platform(*(_text(platform, name) for name in ("architecture", "os", "variant")))


def _reference(annotations: Fields) -> tuple[bool, Digest | None]:
    """Return whether an entry is an attestation, and which other entry it describes."""
    described = None
    if _REFERENCE_DIGEST in annotations:
        with contextlib.suppress(errors.InvalidReference):  # what it describes is then not known
            described = Digest(annotations[_REFERENCE_DIGEST])
    return _REFERENCE_TYPE in annotations, described


def _check_data(fields: Fields, described: Descriptor) -> None:
    """Raise ManifestInvalid unless embedded data is right (descriptor.md, "Embedded Content")."""
    data = _text(fields, "data")
    if data is None:
        return
    try:
        content = binascii.a2b_base64(data, strict_mode=True)
        described.digest.verify(content)
    except (ValueError, errors.DigestMismatch) as e:
        raise errors.ManifestInvalid(f"data embedded for {described.digest}: {e}") from e
    if len(content) != described.size:
        raise errors.ManifestInvalid(
            f"data embedded for {described.digest} has {len(content)} bytes, not {described.size}"
        )


def _check_agreement(what: str, claims: Iterable[tuple[Digest, object]]) -> None:
    """Raise ManifestInvalid where a digest is listed several times with different claims."""
    known: dict[str, object] = {}
    for digest, claim in claims:
        if known.setdefault(digest.value, claim) != claim:
            raise errors.ManifestInvalid(
                f"{digest} is listed with two {what}s: {known[digest.value]} and {claim}"
            )


# NOTE: Go programs write an empty list or object as null.
def _list(fields: Fields, name: str) -> list[Any]:
    return _field(fields, name, list) or []


def _object(fields: Fields, name: str) -> Fields:
    return _field(fields, name, dict) or {}


def _text(fields: Fields, name: str) -> str | None:
    value: str | None = _field(fields, name, str)
    return value


def _field(fields: Fields, name: str, kind: type) -> Any:
    value = fields.get(name)
    if value is not None and not isinstance(value, kind):
        raise errors.ManifestInvalid(f"{name!r} in a manifest has the wrong type")
    return value
