# apo_embed(TARGET FILE...)   files under src/ as string literals: src/ROOM/NAME is #include "ROOM/NAME.inc",
#                             a line feed and the file's text. Edited, they are embedded anew by the next build.
function(apo_embed target)
  foreach(file IN LISTS ARGN)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/${file}")
    file(READ "${PROJECT_SOURCE_DIR}/src/${file}" text)
    file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/embedded/${file}.inc"
         CONTENT "R\"embedded(\n@text@)embedded\"\n" @ONLY)
  endforeach()
  target_include_directories(${target} PRIVATE "${PROJECT_BINARY_DIR}/embedded")
endfunction()
