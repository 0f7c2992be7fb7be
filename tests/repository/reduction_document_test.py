"""docs/reduction.md tells the truth: its example is the file that is built and tested, its methods are those there are."""
import re
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs/reduction.md").read_text()
BLOCKS = re.findall(r"^```\w*\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
METHODS = DOCUMENT.split("\n## Methods\n")[1].split("\n## ")[0]
REGISTRATION = re.compile(r'MethodRegistration \w+\{\s*"([^"]+)"')


class ReductionDocument(unittest.TestCase):
    def test_the_example_is_the_one_that_is_built(self):
        for name in ("still.cc", "CMakeLists.txt"):
            with self.subTest(name):
                self.assertIn((ROOT / "examples" / name).read_text(), BLOCKS)

    def test_every_method_has_its_line(self):
        methods = set()
        for source in (ROOT / "src/reduction/methods").glob("*.cc"):
            methods.update(REGISTRATION.findall(source.read_text()))
        self.assertTrue(methods)
        listed = re.findall(r"^\| `([\w-]+)`(?:, `([\w-]+)`)? \|", METHODS, re.MULTILINE)
        self.assertEqual({name for names in listed for name in names if name}, methods)


if __name__ == "__main__":
    unittest.main()
