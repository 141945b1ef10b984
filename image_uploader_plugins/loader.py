# SPDX-License-Identifier: Apache-2.0
"""The loading of drivers: oslo.config's options name one, and stevedore loads it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from oslo_config import cfg
from stevedore import named

from image_uploader_plugins import errors, option_values, pace
from image_uploader_plugins.driver import UploaderDriver
from image_uploader_plugins.pace import Limits
from image_uploader_plugins.text import did_you_mean

if TYPE_CHECKING:
    from image_uploader_plugins.sources.settings import Settings

NAMESPACE = "image_uploader_plugins.drivers"
PROJECT = "image-uploader"

# NOTE: a name, not an OptGroup: oslo.config would share one's values between ConfigOpts.
GROUP = "image_uploader"

_OPTIONS = [
    cfg.StrOpt(
        "driver",
        default="local-export",
        help=(
            f"The target that images are written to, by its name in the entry-point group "
            f"{NAMESPACE}. local-export writes a directory tree that any web server hands "
            "out as a registry; its options are in [local_export]."
        ),
    ),
    cfg.IntOpt(
        "minimum_rate",
        default=pace.MINIMUM_RATE,
        min=0,
        help=(
            "The lowest rate of a transfer, in bytes per second: of a manifest, a layer or a "
            "token, on average over 30 seconds of waiting for the registry. A slower transfer is "
            "stopped and tried again. 0 means no limit."
        ),
    ),
    cfg.IntOpt(
        "transfer_deadline",
        default=pace.DEADLINE,
        min=0,
        help=(
            "Seconds after which the transfer of one manifest, layer or token fails, at any "
            "rate. Must be longer than the transfer of your largest layer. 0 means no limit."
        ),
    ),
    cfg.IntOpt(
        "answer_timeout",
        default=int(pace.READ_TIMEOUT),
        min=1,
        help=(
            "Seconds that a registry may send nothing, before an answer or during it. A registry "
            "that is a cache of another one may need minutes for content that is not in it yet."
        ),
    ),
    cfg.IntOpt(
        "longest_pause",
        default=pace.LONGEST_PAUSE,
        min=0,
        help=(
            "The most seconds that one request waits, in total, for a registry that limits the "
            "number of requests (429 Too Many Requests, Retry-After)."
        ),
    ),
    cfg.BoolOpt(
        "registries_conf_mirrors",
        help=(
            "Whether the mirrors in containers' registries.conf are asked before the registries "
            "that they are for, and its locations and blocked registries count. Unset, that is "
            "so for sync, and neither for prepare nor for upload."
        ),
    ),
    cfg.ListOpt(
        "insecure_registries",
        default=[],
        help=(
            "Registries to copy from whose certificate is not verified, and which may use http "
            "instead of https: host or host:port, or networks such as 192.168.24.0/24. Registries "
            "in DockerInsecureRegistryAddress of a deployment, and those with insecure = true in "
            "containers' registries.conf, are added to these. Passwords are sent to "
            "them as they are."
        ),
    ),
]


def list_opts() -> list[tuple[str | None, list[Any]]]:
    """Return the options of ``[image_uploader]`` and of local-export, the driver in this package.

    For the entry-point group ``oslo.config.opts``, in which the package of
    another driver names that driver's own.
    """
    # A command that prints no sample does without the driver.
    from image_uploader_plugins.local_export import options  # noqa: PLC0415

    return [(GROUP, list(_OPTIONS)), *options.list_opts()]


def load_conf(args: Sequence[str] = (), config_files: list[str] | None = None) -> cfg.ConfigOpts:
    """Return options of our own, apart from any other program's: from ``config_files``.

    Without any, those that oslo.config finds for ``image-uploader`` (in
    /etc/image-uploader and the like).  Raises ConfigurationError for a file
    that is missing or malformed, or a value of ``[image_uploader]`` that cannot be.
    """
    conf = cfg.ConfigOpts()
    register(conf)
    try:
        conf(list(args), project=PROJECT, default_config_files=config_files)
    except cfg.ConfigFilesNotFoundError as e:
        raise errors.ConfigurationError(f"no such file: {', '.join(e.config_files)}") from e
    except (cfg.Error, UnicodeDecodeError) as e:
        files = config_files or cfg.find_config_files(project=PROJECT)
        reason = f"{', '.join(files)}: {e}" if isinstance(e, UnicodeDecodeError) else str(e)
        raise errors.ConfigurationError(reason) from e
    option_values.check(conf, GROUP, _OPTIONS)
    return conf


def unknown_options(conf: cfg.ConfigOpts) -> list[str]:
    """Return a sentence for each key, in the files that were read, which has no effect."""
    known = {group: [option.name for option in found] for group, found in list_opts() if group}
    return list(option_values.unknown(conf, known))


def register(conf: cfg.ConfigOpts) -> None:
    """Make ``conf`` know ``[image_uploader]``."""
    conf.register_opts(_OPTIONS, group=GROUP)


def selected(conf: cfg.ConfigOpts) -> str:
    """Return the name of the driver that ``[image_uploader] driver`` chooses."""
    register(conf)
    return str(conf[GROUP].driver)


def settings(
    conf: cfg.ConfigOpts, insecure: Iterable[str] = (), *, mirrored: bool = False
) -> Settings:
    """Return how registries are asked, by ``[image_uploader]``; more may be ``insecure``.

    ``mirrored`` says whether registries.conf has mirrors for a command, where
    the options do not say.
    """
    # A command that asks no registry does without its certificates and logins.
    from image_uploader_plugins.sources.registries_conf import RegistriesConf  # noqa: PLC0415
    from image_uploader_plugins.sources.settings import Settings  # noqa: PLC0415
    from image_uploader_plugins.sources.trust import Trust  # noqa: PLC0415

    register(conf)
    group = conf[GROUP]
    if group.registries_conf_mirrors is not None:
        mirrored = group.registries_conf_mirrors
    return Settings(
        trust=Trust([*group.insecure_registries, *insecure]),
        limits=Limits(group.minimum_rate, group.transfer_deadline),
        registries_conf=RegistriesConf() if mirrored else None,
        read_timeout=group.answer_timeout,
        longest_pause=group.longest_pause,
    )


def load_driver(conf: cfg.ConfigOpts, name: str | None = None) -> UploaderDriver:
    """Return the driver called ``name``, or else the one ``[image_uploader] driver`` chooses.

    Raises ConfigurationError, naming the driver, the group and what is
    installed, when it is unknown, cannot be imported, is no driver or
    refuses its options.
    """
    name = name or selected(conf)
    kind = _load_class(name)
    try:
        return kind.from_conf(conf)
    except (errors.UploaderError, cfg.Error, ValueError) as e:
        raise errors.ConfigurationError(f"driver {name!r} refuses its options: {e}") from e


def installed() -> list[str]:
    """Return the names in the entry-point group, whether they load or not."""
    manager: named.NamedExtensionManager[Any] = named.NamedExtensionManager(NAMESPACE, [])
    return sorted({entry_point.name for entry_point in manager.list_entry_points()})


def _ignore(*_: object) -> None:
    """Do nothing: a driver that is missing is reported when it is asked for."""


def _load_class(name: str) -> type[UploaderDriver]:
    reasons: list[BaseException] = []
    # NOTE: stevedore's DriverManager does not pass on_missing_entrypoints_callback on, and
    # warns of what is an error here.
    manager: named.NamedExtensionManager[Any] = named.NamedExtensionManager(
        NAMESPACE,
        [name],
        on_load_failure_callback=lambda _manager, _entry_point, e: reasons.append(e),
        on_missing_entrypoints_callback=_ignore,
    )
    found = [extension.plugin for extension in manager]
    if len(found) > 1:
        raise _refusal(name, "installed more than once")
    if not found:
        raise _refusal(name, str(reasons[0]) if reasons else "not installed")
    if not (isinstance(found[0], type) and issubclass(found[0], UploaderDriver)):
        raise _refusal(name, f"{found[0]!r} is not an UploaderDriver")
    return found[0]


def _refusal(name: str, reason: str) -> errors.ConfigurationError:
    names = ", ".join(installed()) or "none"
    return errors.ConfigurationError(
        f"cannot load driver {name!r} from {NAMESPACE}: {reason} (installed: {names}"
        f"{did_you_mean(name, installed())})"
    )
