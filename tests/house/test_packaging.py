"""What is built and shipped: the sdist, the wheel, and csrc's independence from torch."""

import email
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import fused_warmup

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "fused_warmup"
EXT_SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


def run(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel made from it, in this environment.

    Object files that the checkout already has are used again: compiling is not what is tested.
    """
    # Not "build": the folder of that name in the checkout would do for an import.
    pytest.importorskip("build.__main__", reason="the package `build` is not installed")
    folder = tmp_path_factory.mktemp("dist")
    objects = ROOT / "build" / f"temp.{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    config = folder / "build.cfg"
    config.write_text(f"[build]\nbuild_temp = {objects}\n")
    build = run("-m", "build", "-n", "-x", "-o", str(folder), DIST_EXTRA_CONFIG=str(config))
    assert build.returncode == 0, build.stdout + build.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> dict[str, bytes]:
    (path,) = dist.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def sdist(dist: Path) -> set[str]:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        files = [member.name for member in archive.getmembers() if member.isfile()]
    return {name.partition("/")[2] for name in files}


def package_files(*patterns: str) -> set[str]:
    found = {path for pattern in patterns for path in PACKAGE.rglob(pattern)}
    return {path.relative_to(ROOT).as_posix() for path in found}


def test_version_is_the_installed_one() -> None:
    assert importlib.metadata.version("fused-warmup") == fused_warmup.__version__


def test_changelog_begins_with_this_version_or_what_comes_after_it() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] in ("Unreleased", fused_warmup.__version__)
    assert len(set(headings)) == len(headings)


def test_wheel_holds_the_package_and_nothing_else(wheel: dict[str, bytes]) -> None:
    shipped = {name for name in wheel if ".dist-info/" not in name}
    expected = package_files("*.py", "*.pyi", "py.typed") | {f"fused_warmup/_C{EXT_SUFFIX}"}
    assert shipped == expected
    assert {"fused_warmup/py.typed", "fused_warmup/_C.pyi"} <= shipped


def test_wheel_metadata(wheel: dict[str, bytes]) -> None:
    prefix = f"fused_warmup-{fused_warmup.__version__}.dist-info"
    metadata = email.message_from_bytes(wheel[f"{prefix}/METADATA"])
    required = [r for r in metadata.get_all("Requires-Dist", []) if "extra ==" not in r]
    assert required == ["torch>=2.11"]
    assert metadata["Version"] == fused_warmup.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert f"{prefix}/licenses/LICENSE" in wheel


def test_wheel_extension_links_no_torch_and_no_cuda_library(
    wheel: dict[str, bytes], tmp_path: Path
) -> None:
    extension = tmp_path / "extension.so"
    extension.write_bytes(wheel[f"fused_warmup/_C{EXT_SUFFIX}"])
    listing = subprocess.run(
        ["readelf", "--dynamic", extension], capture_output=True, text=True, check=True
    ).stdout
    libraries = set(re.findall(r"\(NEEDED\).*\[lib([a-z0-9_+]+)\.so", listing))
    assert libraries & {"gomp", "omp"}  # the pattern does find libraries
    assert not libraries & {"torch", "torch_cpu", "torch_python", "c10", "cudart"}


def native_sources() -> list[Path]:
    return sorted(path for path in (ROOT / "csrc").rglob("*") if path.is_file())


def test_sdist_holds_all_that_builds_and_tests(sdist: set[str]) -> None:
    tests = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")}
    docs = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.*")}
    native = {str(path.relative_to(ROOT)) for path in native_sources()}
    build = {"setup.py", "pyproject.toml", "MANIFEST.in", "Makefile", "LICENSE", "CHANGELOG.md"}
    assert sdist >= package_files("*.py", "*.pyi", "py.typed") | tests | docs | native | build


def test_sdist_holds_nothing_that_was_built(sdist: set[str]) -> None:
    built = re.compile(r"\.(so|o|pyc)$|(^|/)(build|dist|__pycache__|\.venv)/")
    assert [name for name in sorted(sdist) if built.search(name)] == []


def test_csrc_includes_no_torch_header() -> None:
    include = re.compile(r'^\s*#\s*include\s*[<"]((?:torch|ATen|c10|caffe2)/[^>"]*)', re.MULTILINE)
    sources = native_sources()
    assert sources
    assert {
        str(path): found for path in sources if (found := include.findall(path.read_text()))
    } == {}


@pytest.mark.parametrize("value", ["maybe", "2"])
def test_build_refuses_a_setting_that_it_does_not_know(value: str) -> None:
    build = run("setup.py", "-q", "build_ext", FUSED_WARMUP_CUDA=value)
    assert build.returncode != 0
    assert f"FUSED_WARMUP_CUDA={value!r} is not understood: set it to 0 or 1" in build.stderr


def test_build_names_every_dlpack_header_that_is_too_old(tmp_path: Path) -> None:
    headers = [tmp_path / "torch/include/ATen", tmp_path / "tvm_ffi/include/dlpack"]
    for folder in headers:
        folder.mkdir(parents=True)
        (folder.parent.parent / "__init__.py").touch()
        (folder / "dlpack.h").write_text("#define DLPACK_VERSION 80\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    build = run("setup.py", "-q", "build_ext", f"--build-temp={tmp_path}", PYTHONPATH=path)
    assert build.returncode != 0
    for folder in headers:
        assert f"{folder / 'dlpack.h'} has none" in build.stderr
    assert "apache-tvm-ffi>=" in build.stderr
