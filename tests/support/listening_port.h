// A port of this machine.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>

namespace apo::testing {

/// A socket that listens at a port of this machine that nobody else has, until it is destroyed.
class ListeningPort {
 public:
  ListeningPort() : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    ::bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address));
    ::listen(socket_, 8);
    socklen_t size = sizeof(address);
    ::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size);
    number_ = ntohs(address.sin_port);
  }
  ~ListeningPort() { ::close(socket_); }
  ListeningPort(const ListeningPort&) = delete;
  ListeningPort& operator=(const ListeningPort&) = delete;
  int64_t number() const { return number_; }

 private:
  int socket_;
  int64_t number_ = 0;
};

inline int64_t free_port() { return ListeningPort().number(); }

}  // namespace apo::testing
