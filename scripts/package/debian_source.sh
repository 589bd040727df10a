# Sourced by the scripts beside it: sources of the distribution, as its own package archive has them.

# debian_source NAME DIR   unpacks the source package NAME into DIR/NAME; asks the archives that apt knows for their
#                          sources without changing apt's configuration
debian_source() {
  local name="$1" dir="$2" apt file
  mkdir -p "$dir/.apt/parts" "$dir/.apt/lists/partial"
  for file in /etc/apt/sources.list.d/*.sources; do
    [ ! -e "$file" ] || sed 's/^Types:.*/Types: deb-src/' "$file" >"$dir/.apt/parts/${file##*/}"
  done
  { cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null || true; } |
    sed -n 's/^deb /deb-src /p' >"$dir/.apt/parts/binary.list"
  apt=(apt-get -o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$dir/.apt/parts" -o "Dir::State::Lists=$dir/.apt/lists"
       -o APT::Sandbox::User=root)
  "${apt[@]}" update
  rm -rf "${dir:?}/$name"
  mkdir -p "$dir/$name"
  (cd "$dir/$name" && "${apt[@]}" source --download-only "$name" && dpkg-source --no-check -x ./*.dsc tree)
}
