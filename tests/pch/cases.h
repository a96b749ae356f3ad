// Headers that nearly every test case includes and nobody edits, read once. A source includes what it uses all the
// same: it compiles without this, too (-Db_pch=false).
#include <doctest/doctest.h>
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>
