# SPDX-License-Identifier: Apache-2.0
"""The configurations of web servers in etc/, completed for one tree."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import re
import shlex
from importlib import resources
from pathlib import Path

from image_uploader_plugins import errors
from image_uploader_plugins.serving import cross_origin

_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")
# Ports that SELinux lets web servers have (http_port_t), as far as they are common.
_HTTP_PORTS = (80, 443, 8008, 8443)


@dataclasses.dataclass(frozen=True)
class Site:
    """A tree and where it is to be served.

    ``host`` is an address, ``::`` for all and None for those that the server
    takes by default (nginx those of IPv4, Apache all); ``certificate`` and
    ``key`` are files in PEM, None for plain HTTP.  ``allow_origins`` are the
    origins whose pages may read the answers (the Fetch standard's CORS), ``*``
    any, none by default.  Raises ConfigurationError for what no configuration
    can have.
    """

    root: Path
    port: int
    host: str | None = None
    server_name: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    allow_origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.port:
            raise errors.ConfigurationError("--port 0 is no port for a web server")
        if self.server_name is not None and not _NAME.fullmatch(self.server_name):
            raise errors.ConfigurationError(f"--server-name is no host name: {self.server_name!r}")
        if self.host is not None and not _is_address(self.host):
            raise errors.ConfigurationError(f"--host is no address: {self.host!r}")
        cross_origin.check(self.allow_origins)

    @property
    def address(self) -> str:
        """Return ``host:port`` with brackets around IPv6; ``port`` where there is no host."""
        if self.host is None:
            return str(self.port)
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def nginx(site: Site) -> str:
    """Return a file for nginx's ``conf.d``."""
    root = _nginx_value(site.root)
    # NOTE: nginx's "::" is all of IPv6 and, unlike Apache's and ours, nothing of IPv4.
    addresses = [str(site.port), site.address] if site.host == "::" else [site.address]
    tls = " ssl" if site.certificate else ""
    listen = [f"listen {address}{tls};" for address in addresses]
    if site.server_name:
        listen.append(f"server_name {site.server_name};")
    if site.certificate and site.key:
        listen += [
            f"ssl_certificate {_nginx_value(site.certificate)};",
            f"ssl_certificate_key {_nginx_value(site.key)};",
            "ssl_protocols TLSv1.2 TLSv1.3;",
        ]
    steps = ["/etc/nginx/conf.d/image-serve.conf", "nginx -t && systemctl reload nginx"]
    return _finished(
        "nginx.conf",
        _preamble(site, "nginx", steps),
        (r"    listen 8787; +# \(1\)\n", _lines("    ", listen)),
        (r"/var/lib/image-serve; +# \(2\)\n", f"{root};\n"),
        *(_nginx_origins(site.allow_origins) if site.allow_origins else ()),
    )


def apache(site: Site) -> str:
    """Return a file for Apache's ``sites-available`` or ``conf.d``."""
    root = _apache_value(site.root)
    inside = [f"ServerName {site.server_name}"] if site.server_name else []
    if site.certificate and site.key:
        inside += [
            "SSLEngine on",
            "SSLProtocol -all +TLSv1.2 +TLSv1.3",
            f"SSLCertificateFile {_apache_value(site.certificate)}",
            f"SSLCertificateKeyFile {_apache_value(site.key)}",
        ]
    modules = "headers rewrite" + (" ssl" if site.certificate else "")
    steps = [
        "/etc/apache2/sites-available/image-serve.conf (Debian)",
        f"a2enmod {modules} && a2ensite image-serve && systemctl reload apache2",
        "/etc/httpd/conf.d/image-serve.conf (RHEL, Fedora)",
        "apachectl configtest && systemctl reload httpd",
    ]
    host = "*" if site.host is None else site.address.rpartition(":")[0]
    port = "${IMAGE_SERVE_PORT}"
    listen = port if site.host is None else f"{host}:{port}"
    return _finished(
        "httpd.conf",
        _preamble(site, "Apache", steps),
        # Defined by another file, they would be that file's.
        (_defined("ROOT", ".+"), f"Define IMAGE_SERVE_ROOT {root}\n"),
        (_defined("PORT", "8787"), f"Define IMAGE_SERVE_PORT {site.port}\n"),
        (r"Listen \$\{IMAGE_SERVE_PORT\}\n", f"Listen {listen}\n"),
        (r"<VirtualHost .+>\n", f"<VirtualHost {host}:{port}>\n{_lines('  ', inside)}"),
        *(_apache_origins(site.allow_origins) if site.allow_origins else ()),
    )


KINDS = {"apache": apache, "nginx": nginx}


def _is_address(text: str) -> bool:
    # NOTE: after "%" ipaddress takes any text for a zone, line breaks too.
    with contextlib.suppress(ValueError):
        return "%" not in text and bool(ipaddress.ip_address(text))
    return False


def _preamble(site: Site, program: str, steps: list[str]) -> str:
    """Return the first lines of a file: comments that say what to do with it."""
    text = [
        f"Serves {site.root} as a read-only container registry.",
        "",
        f'Printed by "image-uploader serve --print {program.lower()}". Stock modules only; nothing',
        "here depends on what is in the tree, so it need not be printed again for an image.",
        "Put it into",
        "",
        *(f"    {step}" for step in steps),
    ]
    if program == "Apache":
        text += ["", "Remove Listen where another file listens on the port."]
    folder = shlex.quote(re.escape(str(site.root)) + "(/.*)?")
    text += [
        "",
        "Where SELinux is enforcing:",
        "",
        f"    semanage fcontext -a -t httpd_sys_content_t {folder}",
        f"    restorecon -R {shlex.quote(str(site.root))}",
    ]
    if site.port not in _HTTP_PORTS:
        text.append(f"    semanage port -a -t http_port_t -p tcp {site.port}")
    return "".join(f"# {line}".rstrip() + "\n" for line in text)


def _finished(name: str, preamble: str, *changes: tuple[str, str]) -> str:
    """Return configuration ``name`` with its first comment and every (pattern, text) replaced."""
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    for pattern, new in ((r"\A(?:#.*\n)+", preamble), *changes):
        # Each is there once; a ValueError says that the file has changed.
        before, after = re.split(pattern, text)
        text = before + new + after
    return text


def _defined(name: str, value: str) -> str:
    return rf"<IfDefine !IMAGE_SERVE_{name}>\n  Define IMAGE_SERVE_{name} {value}\n</IfDefine>\n"


def _lines(indent: str, directives: list[str]) -> str:
    return "".join(f"{indent}{directive}\n" for directive in directives)


_NGINX_MAPS = """
map $oci_varies $oci_vary {
    default  Origin;
    Accept   "Accept, Origin";
}
map $oci_origin $oci_exposed {
    default  "{exposed}";
    ""       "";
}
"""


def _nginx_origins(origins: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the changes, (pattern, text), that let pages of ``origins`` read every answer."""
    preflight = {name: f"$oci_{name.rpartition('-')[2].lower()}" for name in cross_origin.PREFLIGHT}
    maps = _NGINX_MAPS.replace("{exposed}", cross_origin.EXPOSED) + "".join(
        f'map $request_method {variable} {{\n    default  "";\n'
        f'    OPTIONS  "{cross_origin.PREFLIGHT[name]}";\n}}\n'
        for name, variable in preflight.items()
    )
    anybody = cross_origin.ANY in origins
    allowed = ".*" if anybody else "|".join(map(re.escape, origins))
    # NOTE: not by a map, for those of all files that are included are one.
    rules = [
        'set $oci_origin "";',
        f'if ($http_origin ~ "^(?:{allowed})$") {{',
        f"    set $oci_origin {'*' if anybody else '$http_origin'};",
        "}",
        # A browser's first request has no credentials: it is answered before they are checked.
        "if ($request_method = OPTIONS) {",
        "    return 204;",
        "}",
    ]
    headers = [
        f"add_header Vary ${'oci_varies' if anybody else 'oci_vary'} always;",
        "add_header Access-Control-Allow-Origin $oci_origin always;",
        "add_header Access-Control-Expose-Headers $oci_exposed always;",
        *(f"add_header {name} {variable};" for name, variable in preflight.items()),
    ]
    sent = [f'set ${name} "";' for name in ("oci_origin", "oci_exposed", "oci_vary")]
    methods, no_range = "    if ($request_method = GET) {\n", "    location @no_range {\n"
    return [
        (r"\nserver \{\n", f"{maps}\nserver {{\n"),
        (r"    add_header Vary .+\n", _lines("    ", headers)),
        (re.escape(methods), _lines("    ", rules) + methods),
        (re.escape(no_range), no_range + _lines("        ", sent)),
    ]


def _apache_origins(origins: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the changes, (pattern, text), that let pages of ``origins`` read every answer."""
    allowed, condition, rules, vary = "*", "", [], []
    if cross_origin.ANY not in origins:
        allowed, condition = '"%{image_serve_origin}e"', " env=image_serve_origin"
        pattern = "|".join(map(re.escape, origins))
        rules = [f'SetEnvIf Origin "^(?:{pattern})$" image_serve_origin=$0']
        vary = ["Header always merge Vary Origin"]
    # A browser's first request has no credentials, and is answered before they are checked.
    rules += ["RewriteCond %{REQUEST_METHOD} =OPTIONS", "RewriteRule ^ - [R=204,L]"]
    headers = [
        f"Header always set Access-Control-Allow-Origin {allowed}{condition}",
        f'Header always set Access-Control-Expose-Headers "{cross_origin.EXPOSED}"{condition}',
        *vary,
        *(
            f'Header always set {name} "{value}" "expr=%{{REQUEST_METHOD}} == \'OPTIONS\'"'
            for name, value in cross_origin.PREFLIGHT.items()
        ),
    ]
    methods, below = "  RewriteCond %{REQUEST_METHOD} !^(GET|HEAD)$", "  # OCI distribution-spec"
    return [
        (re.escape(methods), _lines("  ", rules) + methods),
        (re.escape(below), _lines("  ", headers) + "\n" + below),
    ]


def _nginx_value(path: Path) -> str:
    # NOTE: nginx has no way to write "$" where variables are.
    text = _checked(path, "$", "nginx")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _apache_value(path: Path) -> str:
    # NOTE: it becomes part of quoted arguments, of <Directory>'s patterns, of
    # strings in expressions, and of texts in which mod_rewrite expands "$" and "%".
    return f'"{_checked(path, "$%*?[]" + chr(34) + chr(39) + chr(92), "Apache")}"'


def _checked(path: Path, special: str, program: str) -> str:
    text = str(path)
    if not text.isprintable():
        raise errors.ConfigurationError(f"a configuration cannot have this path: {text!r}")
    found = sorted(set(text).intersection(special))
    if found:
        raise errors.ConfigurationError(
            f"{program}'s configuration cannot have {' '.join(found)} in a path: {text!r}"
        )
    return text
