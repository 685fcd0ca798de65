"""Build the two compiled parts; everything else is said in pyproject.toml.

The cffi module ``sandbox.native._launch`` goes through setuptools' own
extension machinery, so that it is abi3 and wheels are tagged for the platform.
The monitor is a static program and no extension: it is a build step of its own.
"""

import importlib.util
import os

from setuptools import Command, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.command.build_py import build_py

ROOT = os.path.dirname(os.path.abspath(__file__))
NATIVE = os.path.join("sandbox", "native")
MONITOR = os.path.join(NATIVE, "monitor")
EXTENSION = os.path.join(NATIVE, "build.py")


class BuildMonitor(Command):
    """Compile the static monitor next to the modules that start it."""

    description = "compile the monitor, a static executable"
    user_options = [("inplace", "i", "leave it in the source tree")]
    boolean_options = ["inplace"]

    def initialize_options(self) -> None:
        self.inplace = False
        self.build_lib: str | None = None
        self.editable_mode = False

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def run(self) -> None:
        path = os.path.join(ROOT, NATIVE, "build_monitor.py")
        spec = importlib.util.spec_from_file_location("build_monitor", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        out = MONITOR if self.editable_mode or self.inplace else self._built()
        os.makedirs(os.path.dirname(out), exist_ok=True)
        module.build_monitor(os.path.abspath(out))

    def get_outputs(self) -> list[str]:
        return [self._built()]

    def get_output_mapping(self) -> dict[str, str]:
        return {self._built(): MONITOR} if self.editable_mode else {}

    def get_source_files(self) -> list[str]:
        return [
            os.path.join(NATIVE, name)
            for name in sorted(os.listdir(os.path.join(ROOT, NATIVE)))
            if name.endswith((".c", ".h"))
        ]

    def _built(self) -> str:
        assert self.build_lib is not None
        return os.path.join(self.build_lib, MONITOR)


class BuildModules(build_py):
    """With an empty ``start.cache``: starts fill it (CONTRIBUTING.md, "The launcher").

    It is there so that an installer knows it for ours and removes it with the rest.
    """

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            os.makedirs(os.path.dirname(self._cache()), exist_ok=True)
            with open(self._cache(), "wb"):
                pass

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs = super().get_outputs(include_bytecode)
        return outputs if self.editable_mode else [*outputs, self._cache()]

    def _cache(self) -> str:
        return os.path.join(self.build_lib, "sandbox", "start.cache")


class PlatformWheel(bdist_wheel):
    """One wheel for every CPython from 3.11 on: the extension is abi3."""

    def finalize_options(self) -> None:
        self.py_limited_api = "cp311"
        super().finalize_options()


build.sub_commands.append(("build_monitor", None))
setup(
    cffi_modules=[f"{EXTENSION}:ffibuilder"],
    cmdclass={
        "build_monitor": BuildMonitor,
        "build_py": BuildModules,
        "bdist_wheel": PlatformWheel,
    },
)
