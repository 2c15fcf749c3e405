# SPDX-License-Identifier: MIT
# The install target and the Debian package (cpack -G DEB). The unit names /usr/bin/tidewire and
# /etc/tidewire, so /usr is the prefix unless another is asked for.
if(CMAKE_INSTALL_PREFIX_INITIALIZED_TO_DEFAULT)
  set(CMAKE_INSTALL_PREFIX /usr CACHE PATH "Where to install" FORCE)
endif()
include(GNUInstallDirs)

set(TW_DEPLOY ${CMAKE_SOURCE_DIR}/tools/deploy)
install(TARGETS tidewire tidewire-load RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES ${TW_DEPLOY}/tidewire.service DESTINATION lib/systemd/system)
install(FILES ${TW_DEPLOY}/sysusers.conf DESTINATION lib/sysusers.d RENAME tidewire.conf)
install(FILES ${TW_DEPLOY}/tidewire.conf DESTINATION /etc/tidewire)
install(FILES ${TW_DEPLOY}/copyright DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/doc/tidewire)
install(FILES ${TW_DEPLOY}/haproxy.cfg ${TW_DEPLOY}/nginx.conf
        DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/doc/tidewire/examples)

# The manual pages are what the programs say about themselves. Instrumented builds are not for
# installing.
if(NOT TW_SANITIZE AND NOT TW_FUZZ)
  find_program(GZIP_PROGRAM gzip REQUIRED)
  foreach(program tidewire tidewire-load)
    set(page ${CMAKE_BINARY_DIR}/generated/${program}.1)
    add_custom_command(OUTPUT ${page}.gz
      COMMAND $<TARGET_FILE:${program}> help --man > ${page}
      COMMAND ${GZIP_PROGRAM} -9 -n -f ${page}
      DEPENDS ${program} VERBATIM)
    list(APPEND TW_MAN_PAGES ${page}.gz)
  endforeach()
  add_custom_target(man ALL DEPENDS ${TW_MAN_PAGES})
  install(FILES ${TW_MAN_PAGES} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
endif()

# The package ------------------------------------------------------------------------------------
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME tidewire)
set(CPACK_PACKAGE_VENDOR "The Tidewire authors")
set(CPACK_PACKAGE_CONTACT "The Tidewire authors <tidewire@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "real-time edge node: WebSocket connections and rooms")
set(CPACK_PACKAGE_DESCRIPTION
    "Holds many WebSocket connections on one machine and passes messages between them.\
 One shard per core, each with its own event loop on io_uring or epoll.\
 It starts on the loopback address with /etc/tidewire/tidewire.conf.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ
    GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS adduser)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${TW_DEPLOY}/conffiles ${TW_DEPLOY}/postinst
    ${TW_DEPLOY}/prerm ${TW_DEPLOY}/postrm)
include(CPack)
