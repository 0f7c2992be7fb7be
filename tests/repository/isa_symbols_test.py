"""What is compiled once per instruction set leaves nothing that other code could be linked to: isa_symbols_test.py NM OBJECTS

The linker keeps one copy of an inline function or template for the whole program. Were one of an object with AVX-512 kept, the
program would die on a processor without it; so each object may define symbols of its own namespaces alone.
"""
import re
import subprocess
import sys
import unittest

NM, OBJECTS = sys.argv[1], sys.argv[2:]
STAMPED = re.compile(r"CMakeFiles/molt_isa_(\w+)\.dir/")


def shared_symbols(path):
    """Names, demangled, of what the object defines for all others to see."""
    listed = subprocess.run([NM, "--defined-only", "--extern-only", "--demangle", path], check=True,
                            capture_output=True, text=True).stdout
    return [line.split(maxsplit=2)[2] for line in listed.splitlines() if len(line.split(maxsplit=2)) == 3]


class IsaSymbols(unittest.TestCase):
    def test_each_object_keeps_to_its_namespaces(self):
        self.assertTrue(OBJECTS)
        for path in OBJECTS:
            name = STAMPED.search(path).group(1)
            own = (f"molt::{name}::", f"molt_eigen_{name.removeprefix('dense_')}::", "DW.ref.", "__odr_asan")
            with self.subTest(object=path):
                symbols = shared_symbols(path)
                self.assertTrue(symbols)
                self.assertEqual([symbol for symbol in symbols if not any(part in symbol for part in own)], [])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
