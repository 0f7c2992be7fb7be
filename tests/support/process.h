// run_command(): runs a program as a user would, and gives back all that it said.
//
// No shell is involved: arguments arrive as they are. One command at a time a process; standard input is a pipe, never
// a terminal.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <optional>
#include <ostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

extern char** environ;

namespace molt::testing_support {

struct Finished {
  int code = -1;  // the exit code, or minus the signal that ended the program
  std::string out;
  std::string err;
  bool timed_out = false;  // and was killed

  friend std::ostream& operator<<(std::ostream& stream, const Finished& f) {
    return stream << "exit code " << f.code << (f.timed_out ? " (timed out)" : "") << "\nstdout: " << f.out
                  << "\nstderr: " << f.err;
  }
};

struct CommandOptions {
  std::string in;                              // standard input
  std::optional<std::string> out_path;         // where standard output goes instead of into Finished::out
  std::optional<std::size_t> close_out_after;  // bytes of output after which nobody reads any more
  std::optional<std::size_t> interrupt_after;  // bytes of output after which SIGINT is sent, once
  std::chrono::seconds timeout{300};
};

namespace process_details {

struct Pipe {
  int read = -1;
  int write = -1;

  Pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
    read = ends[0];
    write = ends[1];
  }
  ~Pipe() {
    close_end(read);
    close_end(write);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  static void close_end(int& end) {
    if (end >= 0) ::close(end);
    end = -1;
  }
};

/// Starts the program with the pipes as its standard streams, and signals as a shell would leave them.
inline pid_t start(const std::vector<std::string>& command, const CommandOptions& options, const Pipe& in,
                   const Pipe& out, const Pipe& err) {
  std::vector<char*> arguments;
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in.read, STDIN_FILENO);
  if (options.out_path) {
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, options.out_path->c_str(), O_WRONLY, 0);
  } else {
    posix_spawn_file_actions_adddup2(&actions, out.write, STDOUT_FILENO);
  }
  posix_spawn_file_actions_adddup2(&actions, err.write, STDERR_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t defaults;
  sigemptyset(&defaults);
  for (const int number : {SIGPIPE, SIGINT}) sigaddset(&defaults, number);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, command[0].c_str(), &actions, &attributes, arguments.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw std::runtime_error(command[0] + ": " + std::strerror(error));
  return pid;
}

/// Appends what is there to `text`; closes the end when there will be no more.
inline void read_some(int& end, std::string& text) {
  std::array<char, 65536> buffer{};
  const ssize_t count = ::read(end, buffer.data(), buffer.size());
  if (count > 0) {
    text.append(buffer.data(), static_cast<std::size_t>(count));
  } else if (count == 0 || (errno != EINTR && errno != EAGAIN)) {
    Pipe::close_end(end);
  }
}

inline void write_some(int& end, const std::string& text, std::size_t& written) {
  if (written < text.size()) {
    const ssize_t count = ::write(end, text.data() + written, text.size() - written);
    if (count > 0) {
      written += static_cast<std::size_t>(count);
    } else if (errno != EINTR && errno != EAGAIN) {
      written = text.size();  // it does not read its input: its own business
    }
  }
  if (written == text.size()) Pipe::close_end(end);
}

}  // namespace process_details

inline Finished run_command(const std::vector<std::string>& command, const CommandOptions& options = {}) {
  using namespace process_details;
  using Clock = std::chrono::steady_clock;
  ::signal(SIGPIPE, SIG_IGN);  // of this process: programs may end before they have read their input
  Pipe in;
  Pipe out;
  Pipe err;
  const pid_t pid = start(command, options, in, out, err);
  Pipe::close_end(in.read);
  Pipe::close_end(out.write);
  Pipe::close_end(err.write);
  ::fcntl(in.write, F_SETFL, O_NONBLOCK);

  Finished finished;
  std::size_t written = 0;
  bool interrupted = false;
  const auto deadline = Clock::now() + options.timeout;
  while ((out.read >= 0 || err.read >= 0) && Clock::now() < deadline) {
    std::array<pollfd, 3> polled{{{in.write, POLLOUT, 0}, {out.read, POLLIN, 0}, {err.read, POLLIN, 0}}};
    ::poll(polled.data(), polled.size(), 100);  // negative descriptors are passed over
    if (in.write >= 0 && polled[0].revents != 0) write_some(in.write, options.in, written);
    if (out.read >= 0 && polled[1].revents != 0) read_some(out.read, finished.out);
    if (err.read >= 0 && polled[2].revents != 0) read_some(err.read, finished.err);
    if (options.close_out_after && finished.out.size() >= *options.close_out_after) Pipe::close_end(out.read);
    if (options.interrupt_after && finished.out.size() >= *options.interrupt_after && !interrupted) {
      interrupted = true;
      ::kill(pid, SIGINT);
    }
  }

  int status = 0;
  while (::waitpid(pid, &status, WNOHANG) == 0) {
    if (Clock::now() >= deadline && !finished.timed_out) {
      finished.timed_out = true;
      ::kill(pid, SIGKILL);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  finished.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  return finished;
}

}  // namespace molt::testing_support
