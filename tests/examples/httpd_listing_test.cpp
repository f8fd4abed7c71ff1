#include <doctest/doctest.h>

#include "examples/temporary_folder.hpp"
#include "httpd/listing.hpp"

#include <string>

#include <fcntl.h>

using namespace httpd;
using httpd_test::temporary_folder;

namespace {

std::string page_of(const temporary_folder& folder, std::string_view path, bool hidden = false) {
  keel::unique_fd fd(open(folder.path().c_str(), O_RDONLY | O_DIRECTORY));
  return listing_page(std::move(fd), path, hidden);
}

}  // namespace

TEST_CASE("listing: directories first, then files, each sorted") {
  temporary_folder folder;
  folder.write("b.txt", "12345");
  folder.write("a.txt", "");
  folder.write("z/x", "");
  folder.write("y/x", "");

  std::string page = page_of(folder, "");

  std::size_t at = 0;
  for (const char* link : {"<a href=\"y/\">y/</a>", "<a href=\"z/\">z/</a>", "<a href=\"a.txt\">a.txt</a>",
                           "<a href=\"b.txt\">b.txt</a></td><td>5</td>"}) {
    CAPTURE(link);
    std::size_t found = page.find(link, at);
    REQUIRE(found != page.npos);
    at = found;
  }
  CHECK(page.find("../") == page.npos);
  CHECK(page_of(folder, "sub/").find("<a href=\"../\">") != page.npos);
}

TEST_CASE("listing: a name is never more than a name") {
  temporary_folder folder;
  folder.write("<script>alert(1)<", "");
  folder.write("a\"b'c&d", "");
  folder.write("javascript:alert(1)", "");
  folder.write("100%?#", "");

  std::string page = page_of(folder, "<b>/");

  CHECK(page.find("<script>") == page.npos);
  CHECK(page.find("<b>") == page.npos);
  CHECK(page.find("<a href=\"%3Cscript%3Ealert%281%29%3C\">&lt;script&gt;alert(1)&lt;</a>") != page.npos);
  CHECK(page.find("<a href=\"a%22b%27c%26d\">a&quot;b&#39;c&amp;d</a>") != page.npos);
  CHECK(page.find("<a href=\"javascript%3Aalert%281%29\">") != page.npos);
  CHECK(page.find("<a href=\"100%25%3F%23\">100%?#</a>") != page.npos);
}

TEST_CASE("listing: hidden names are shown on request only") {
  temporary_folder folder;
  folder.write(".hidden", "");

  CHECK(page_of(folder, "").find("hidden") == std::string::npos);
  CHECK(page_of(folder, "", true).find("<a href=\".hidden\">") != std::string::npos);
  CHECK(page_of(folder, "", true).find("href=\"./\"") == std::string::npos);
}

TEST_CASE("listing: a link tells nothing about what it leads to") {
  temporary_folder folder, outside;
  outside.write("secret", "12345678901234567");
  std::filesystem::create_symlink(outside / "secret", folder / "link");

  CHECK(page_of(folder, "").find("<a href=\"link\">link</a></td><td></td>") != std::string::npos);
}
