#include <molt/molt.h>
#include <iostream>

int main(int, char** argv) try {
  const molt::Model model = molt::Model::load(argv[1]);
  molt::Session session(model);
  molt::State state(model);
  molt::GenerateOptions options;
  options.max_tokens = 48;
  options.on_text = [](std::string_view text) { return static_cast<bool>(std::cout << text << std::flush); };
  molt::generate(session, state, model.tokenizer().encode("The history of the city begins"), options);
} catch (const molt::Error& error) {
  std::cerr << error.what() << "\n";
  return 2;
}
