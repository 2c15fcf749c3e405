# SPDX-License-Identifier: MIT
include(GNUInstallDirs)
install(TARGETS tidewire RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
