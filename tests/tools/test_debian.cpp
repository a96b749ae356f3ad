// Against a stand-in apt-get on PATH that hands out a package made here: no network is needed.
#include <algorithm>
#include <cstdlib>

#include "tests/files.h"
#include "tools/corpora/debian.h"
#include "tools/corpora/process.h"

namespace tandem::data {
using namespace testing;
namespace {

class ScopedVariable {
 public:
  ScopedVariable(const char* name, const std::string& value) : name_(name) {
    const char* old = std::getenv(name);
    had_ = old != nullptr;
    if (had_) old_ = old;
    setenv(name, value.c_str(), 1);
  }
  ~ScopedVariable() { had_ ? setenv(name_, old_.c_str(), 1) : unsetenv(name_); }
  ScopedVariable(const ScopedVariable&) = delete;
  ScopedVariable& operator=(const ScopedVariable&) = delete;

 private:
  const char* name_;
  std::string old_;
  bool had_ = false;
};

struct Mirror : Scratch {
  std::string bin = folder("bin"), log = file("log"), cache = file("cache"), dir = file("data dir");
  std::vector<DebianPackage> packages{{"sample", "", {"usr/share/sample/a.txt", "usr/share/sample/b.txt"}}};
  std::vector<std::string> notices;
  ScopedVariable path{"PATH", bin + ":" + std::getenv("PATH")};

  Mirror() {
    const std::string tree = folder("tree");
    std::filesystem::create_directories(tree + "/DEBIAN");
    std::filesystem::create_directories(tree + "/usr/share/sample");
    write_file(tree + "/DEBIAN/control",
               "Package: sample\nVersion: 1\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: "
               "sample\n");
    write_file(tree + "/usr/share/sample/a.txt", "A");
    write_file(tree + "/usr/share/sample/b.txt", "B");
    REQUIRE(run_process({"dpkg-deb", "--build", tree, file("sample_1_all.deb")}).status == 0);
    script("cp '" + file("sample_1_all.deb") + "' .");
  }

  // A stand-in whose `download` does as told; every call is logged.
  void script(const std::string& download) const {
    write_file(bin + "/apt-get",
               "#!/bin/sh\necho \"$*\" >> '" + log +
                   "'\n"
                   "case \"$*\" in\n"
                   "*--print-uris) echo \"'http://m/debian/dists/bookworm/main/x' x 0\" ;;\n"
                   "*update) cp sources.list '" +
                   file("sources.seen") +
                   "' ;;\n"
                   "*download*) " +
                   download + " ;;\nesac\n");
    std::filesystem::permissions(bin + "/apt-get", std::filesystem::perms::owner_all);
  }

  void fetch() {
    fetch_debian_files(packages, dir, cache, [&](const std::string& line) { notices.push_back(line); });
  }
  std::string error() {
    return message_of<IoError>([&] { fetch(); });
  }
  int64_t calls() const {
    const std::string text = std::filesystem::exists(log) ? bytes_of(log) : "";
    return std::count(text.begin(), text.end(), '\n');
  }
};

TEST_CASE("debian: a package's files arrive, and a second call downloads nothing") {
  Mirror mirror;
  mirror.fetch();
  CHECK(bytes_of(mirror.dir + "/a.txt") == "A");
  CHECK(bytes_of(mirror.dir + "/b.txt") == "B");
  CHECK(mirror.calls() == 3);  // which mirrors, update, download
  const std::string source = bytes_of(mirror.file("sources.seen"));
  CHECK(source.starts_with("deb [signed-by=/usr/share/keyrings/debian-archive-keyring."));
  CHECK(source.ends_with("] http://m/debian bookworm main\n"));
  CHECK(mirror.notices.size() == 1);

  std::filesystem::remove_all(mirror.dir);
  mirror.fetch();
  CHECK(bytes_of(mirror.dir + "/a.txt") == "A");
  CHECK(mirror.calls() == 3);
  int left = 0;  // only the package and its checksum: no temporary folder stays
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(mirror.cache + "/debian"))
    left++;
  CHECK(left == 2);
}

TEST_CASE("debian: a damaged or partial package in the cache is downloaded again") {
  Mirror mirror;
  mirror.fetch();
  const std::string archive = mirror.cache + "/debian/sample.deb";
  const std::string whole = bytes_of(archive);
  SUBCASE("cut short") { write_file(archive, whole.substr(0, whole.size() / 2)); }
  SUBCASE("no checksum: interrupted before it was complete") { std::filesystem::remove(archive + ".sha256"); }
  mirror.fetch();
  CHECK(mirror.calls() == 6);
  CHECK(bytes_of(archive) == whole);
}

TEST_CASE("debian: another checksum than the expected one is a warning") {
  Mirror mirror;
  mirror.packages[0].sha256_prefix = "no such";
  mirror.fetch();
  CHECK(mirror.notices.size() == 2);
  CHECK(contains(mirror.notices.back(), "warning: sample_1_all.deb: sha256 is "));
  CHECK(contains(mirror.notices.back(), "expected no such..."));
  CHECK(bytes_of(mirror.dir + "/a.txt") == "A");
}

TEST_CASE("debian: failures name what to hand over") {
  Mirror mirror;
  const std::string advice = "hand over the files with --data DIR, expected in it: a.txt, b.txt";
  SUBCASE("the download fails") {
    mirror.script("echo 'E: no network' >&2; exit 100");
    const std::string message = mirror.error();
    CHECK(contains(message, "download sample failed (status 100): E: no network"));
    CHECK(contains(message, advice));
  }
  SUBCASE("the package is not what it says") {
    mirror.script("echo broken > sample_1_all.deb");
    CHECK(contains(mirror.error(), "dpkg-deb -x"));
  }
  SUBCASE("no apt-get") {
    // What apt-get is not part of: a PATH with the other tools only.
    const std::string tools = mirror.folder("tools");
    std::filesystem::create_symlink("/usr/bin/dpkg-deb", tools + "/dpkg-deb");
    const ScopedVariable path("PATH", tools);
    const std::string message = mirror.error();
    CHECK(contains(message, "there is no apt-get on this machine"));
    CHECK(contains(message, advice));
  }
  SUBCASE("a file that the package does not have") {
    mirror.packages[0].files.push_back("usr/share/sample/c.txt");
    CHECK(contains(mirror.error(), "package sample holds no usr/share/sample/c.txt"));
  }
}

TEST_CASE("debian: the mirror is found in either format of apt's sources") {
  Scratch scratch;
  scratch.folder("parts");
  scratch.folder("lists/partial");
  const auto mirrors = [&] {
    return debian_mirrors(
        run_process({"apt-get", "-o", "Dir::Etc::SourceList=" + scratch.file("sources.list"), "-o",
                     "Dir::Etc::SourceParts=" + scratch.file("parts"), "-o",
                     "Dir::State::Lists=" + scratch.file("lists"), "update", "--print-uris"})
            .output);
  };
  write_file(scratch.file("sources.list"),
             "# deb http://commented.example/debian bookworm main\n"
             "deb cdrom:[Debian 12]/ bookworm main\n"
             "deb [arch=amd64] https://others.example/tools bookworm main\n"
             "deb http://security.example/debian-security bookworm-security main\n"
             "deb [ arch=amd64 ] http://list.example/debian/ trixie contrib main\n");
  CHECK(mirrors() == std::vector<std::string>{"http://list.example/debian", "https://others.example/tools"});
  write_file(scratch.file("sources.list"), "");
  write_file(scratch.file("parts/debian.sources"),
             "Types: deb deb-src\nURIs: http://off.example/debian\nSuites: bookworm\nComponents: "
             "main\nEnabled: no\n\n"
             "Types: deb\nURIs: http://deb822.example/debian\nSuites: bookworm\n bookworm-updates\n"
             "Components: main\n non-free-firmware\n");
  CHECK(mirrors() == std::vector<std::string>{"http://deb822.example/debian"});
}

TEST_CASE("process: arguments, output, status and folder") {
  Scratch scratch;
  const ProcessResult result =
      run_process({"sh", "-c", "echo \"$1\"; echo err >&2; pwd; exit 3", "sh", "a 'b' $c"}, scratch.path());
  CHECK(result.status == 3);
  CHECK(result.output == "a 'b' $c\nerr\n" + std::filesystem::canonical(scratch.path()).string() + "\n");
  CHECK(run_process({"sh", "-c", "kill -9 $$"}).status == 128 + 9);
  CHECK(contains(message_of<IoError>([] { run_process({"no-such-program"}); }),
                 "no-such-program cannot be started"));
  CHECK(has_program("sh"));
  CHECK(!has_program("no-such-program"));
}

TEST_CASE("cache folder: XDG first, then the home folder") {
  const ScopedVariable home("HOME", "/home/someone");
  {
    const ScopedVariable cache("XDG_CACHE_HOME", "/var/somewhere");
    CHECK(cache_folder() == "/var/somewhere/tandem");
  }
  const ScopedVariable cache("XDG_CACHE_HOME", "");
  CHECK(cache_folder() == "/home/someone/.cache/tandem");
}

}  // namespace
}  // namespace tandem::data
