# install + export, so that find_package(apo) works elsewhere.
