// A shared library that is no plugin.
int no_method() {
  return 0;
}
