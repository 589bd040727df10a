# Writes OUTPUT, a source with the commit that SOURCE is at: "unknown" where SOURCE is not the root of a git work tree.
cmake_policy(VERSION 3.25)
set(commit "unknown")
execute_process(COMMAND git -C "${SOURCE}" rev-parse --show-toplevel OUTPUT_VARIABLE root
                OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed EQUAL 0)
  file(REAL_PATH "${SOURCE}" source)
  file(REAL_PATH "${root}" root)
  if(root STREQUAL source)
    execute_process(COMMAND git --no-optional-locks -C "${SOURCE}" describe --always --abbrev=12 --dirty --exclude=*
                    OUTPUT_VARIABLE described OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
    if(failed EQUAL 0)
      set(commit "${described}")
    endif()
  endif()
endif()
file(CONFIGURE OUTPUT "${OUTPUT}" CONTENT "// the commit that was built
#include \"base/commit.h\"
namespace apo {
std::string_view built_commit() { return \"@commit@\"; }
}  // namespace apo
" @ONLY)
