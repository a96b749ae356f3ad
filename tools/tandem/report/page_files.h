// page.html, page.css and page.js, as embed.py writes them into the command.
#pragma once

#include <string_view>

namespace tandem::report {

extern const std::string_view kPageHtml, kPageCss, kPageJs;

}  // namespace tandem::report
