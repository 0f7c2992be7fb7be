"""docs/architecture.md tells the truth: every folder of src/ has its paragraph, and none includes from one after it."""
import re
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
# The paragraphs' order in the document is the order of the folders: each may include from those before it.
DOCUMENTED = re.findall(r"^\*\*`src/(\w+)/`\*\*", ARCHITECTURE, re.MULTILINE)
FOLDERS = sorted(path.name for path in (ROOT / "src").iterdir() if path.is_dir())
INCLUDE = re.compile(r'^\s*#include "(\w+)/', re.MULTILINE)


def included_folders(source: Path) -> set[str]:
    return set(INCLUDE.findall(source.read_text())) & set(FOLDERS)


class Architecture(unittest.TestCase):
    def test_every_folder_has_its_paragraph(self):
        self.assertEqual(sorted(DOCUMENTED), FOLDERS)

    def test_no_folder_includes_from_one_after_it(self):
        for index, folder in enumerate(DOCUMENTED):
            allowed = set(DOCUMENTED[: index + 1])
            for source in (ROOT / "src" / folder).rglob("*.[hc]*"):
                with self.subTest(source=str(source.relative_to(ROOT))):
                    self.assertLessEqual(included_folders(source), allowed)

    def test_public_headers_stand_on_the_standard_library(self):
        for header in (ROOT / "include/molt").glob("*.h"):
            with self.subTest(header=header.name):
                for name in re.findall(r"^\s*#include [<\"]([^>\"]+)", header.read_text(), re.MULTILINE):
                    self.assertTrue(name.startswith("molt/") or "." not in name and "/" not in name, name)


if __name__ == "__main__":
    unittest.main()
