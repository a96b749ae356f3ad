// What most sources include and nobody edits, read once for each part of the build. A source includes what it
// uses all the same: it has to compile without this (-Db_pch=false, as tools/check --sanitize builds).
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>
