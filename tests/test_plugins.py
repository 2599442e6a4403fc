"""How registries find their entries, in the package and in installed plug-ins, and what they say when not."""

import subprocess
import sys
from pathlib import Path

import pytest

from dynnas.errors import PluginError, SpaceError, TargetError
from dynnas.registry import Registry

GROUP = "dynnas.test_dishes"


def install(site: Path, package: str, point: str, **modules: str) -> None:
    """Lay a distribution with one entry point into `site`, as pip would: metadata and modules."""
    information = site / f"{package.replace('-', '_')}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{GROUP}]\n{point}\n")
    for name, text in modules.items():
        (site / f"{name}.py").write_text(text)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed distributions; what is imported from it is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("soup_module", "stew_module"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_an_installed_class_is_an_entry_under_the_name_of_its_entry_point(site: Path) -> None:
    install(site, "dynnas-soup", "soup = soup_module:Soup", soup_module="class Soup:\n    pass\n")
    dishes: Registry[type] = Registry("dish", group=GROUP)
    dishes.register("bread")(int)
    assert list(dishes) == ["bread", "soup"]
    assert dishes["soup"] is sys.modules["soup_module"].Soup
    assert dishes.origin("soup") == "dynnas-soup"


def test_an_installed_module_registers_by_itself(site: Path) -> None:
    text = "import dishes_of_the_test as home\n\n@home.DISHES.register('soup')\nclass Soup:\n    pass\n"
    install(site, "dynnas-soup", "anything = soup_module", soup_module=text)
    dishes: Registry[type] = Registry("dish", group=GROUP)
    module = type(sys)("dishes_of_the_test")
    module.DISHES = dishes  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "dishes_of_the_test", module)
        assert list(dishes) == ["soup"]
    assert dishes.origin("soup") == "dynnas-soup"


def test_a_broken_plugin_is_named_each_time(site: Path) -> None:
    install(site, "dynnas-soup", "soup = soup_module:Soup", soup_module="raise OSError('no pot')\n")
    dishes: Registry[type] = Registry("dish", group=GROUP)
    message = (
        r"dish plug-in 'soup' of package 'dynnas-soup' \(entry point dynnas\.test_dishes: "
        r"soup = soup_module:Soup\) cannot be loaded: OSError: no pot; mend it, or remove it with: "
        r"pip uninstall dynnas-soup"
    )
    for _ in range(2):
        with pytest.raises(PluginError, match=message):
            dishes["soup"]


def test_two_plugins_of_one_name_are_both_named(site: Path) -> None:
    install(site, "dynnas-soup", "soup = soup_module:Soup", soup_module="class Soup:\n    pass\n")
    install(site, "dynnas-stew", "soup = stew_module:Stew", stew_module="class Stew:\n    pass\n")
    with pytest.raises(
        PluginError,
        match=r"package 'dynnas-stew' .*'soup' is already registered by soup_module\.Soup; "
        r"stew_module\.Stew must have another name",
    ):
        len(Registry("dish", group=GROUP))


def test_the_error_of_an_unknown_name_is_that_of_the_kind() -> None:
    dishes: Registry[type] = Registry("dish", error=TargetError)
    dishes.register("soup")(int)
    with pytest.raises(TargetError, match=r"unknown dish 'soop' \(did you mean 'soup'\?\); known: soup"):
        dishes["soop"]


def test_a_definition_that_runs_again_takes_the_place_of_the_first() -> None:
    dishes: Registry[type] = Registry("dish")

    def define() -> type:
        @dishes.register("soup")
        class Soup:
            pass

        return Soup

    first, second = define(), define()
    assert dishes["soup"] is second
    assert second is not first


def test_entries_are_in_the_order_asked_for() -> None:
    dishes: Registry[int] = Registry("dish", order=lambda size: size)
    for name, size in (("large", 3), ("small", 1), ("middle", 2)):
        dishes.register(name)(size)
    assert list(dishes) == ["small", "middle", "large"]


def test_a_name_of_the_package_itself_is_refused_where_it_is_taken() -> None:
    from dynnas.nn.kernels.kernel import Kernel, register_kernel

    with pytest.raises(
        ValueError, match=r"'condconv' is already registered by dynnas\.nn\.kernels\.condconv"
    ):

        @register_kernel("condconv")
        class Other(Kernel):
            pass


def test_an_entry_of_another_class_is_refused() -> None:
    from dynnas.nn.kernels.kernel import register_kernel

    with pytest.raises(TypeError, match=r"Other must be a subclass of dynnas\.nn\.kernels\.kernel\.Kernel"):

        @register_kernel("another")
        class Other:
            pass


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("registry", "name"),
    [
        ("dynnas.nn.kernels.kernel.KERNELS", "weightnet"),
        ("dynnas.nn.gates.family.GATES", "moe"),
        ("dynnas.nn.registry.BLOCKS", "shuffle_v1"),
        ("dynnas.nn.registry.ATTENTIONS", "cbam"),
        ("dynnas.nn.registry.ACTIVATIONS", "dyrelu_b"),
    ],
)
def test_a_registry_alone_finds_its_entries(registry: str, name: str) -> None:
    """In a fresh interpreter that has imported nothing but the module of the registry."""
    module, _, variable = registry.rpartition(".")
    code = f"from {module} import {variable}; print({variable}[{name!r}].__module__)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip().startswith("dynnas.nn.")


def test_an_unknown_block_is_a_space_error() -> None:
    from dynnas.nn.registry import BLOCKS

    with pytest.raises(SpaceError, match=r"unknown block 'mbcon' \(did you mean 'mbconv'\?\); known: "):
        BLOCKS["mbcon"]
