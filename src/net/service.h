/* SPDX-License-Identifier: Apache-2.0 */
/* service.h - the metadata service as a guest on a network of its own sees it: TCP at port 80 of 169.254.169.254, without a host behind
 * that address. Frames for it end here, whatever they carry, so nothing of the guest's comes past to what has that address where the host is.
 *
 * Each connection of the guest is given one of the stream sockets that somebody has put in (net_service_give()), as bytes both ways, and
 * nothing else. The first byte that comes from there is the time to live of the packets that carry what follows. Without a socket connections
 * are refused.
 *
 * The guest is hostile: connections, bytes that wait, frames to be answered and the time that nothing happens are bounded, and no
 * more is read of a frame than its headers and what fits into the socket. TCP (RFC 9293) without options but MSS, in order only. Loop thread. */
#ifndef NET_SERVICE_H
#define NET_SERVICE_H

#include <stdbool.h>
#include <sys/uio.h>

struct loop;
struct net_client;
struct net_service;

enum { NET_SERVICE_CONNS = 8, NET_SERVICE_SOCKETS = 8 };

/* Answers go to CLIENT (borrowed). NULL: out of memory. */
struct net_service *net_service_new(struct loop *loop, struct net_client *client);
void net_service_free(struct net_service *s);           /* NULL is fine */
/* Is the frame for the service? Then it is dealt with; nothing comes back from inside this call. */
bool net_service_takes(struct net_service *s, const struct iovec *iov, int n_iov);
/* The client takes frames again. Nothing comes back from inside this call. */
void net_service_resume(struct net_service *s);
/* FD (taken on success), a stream socket, is for one connection. -ENOSPC: there are enough. */
int net_service_give(struct net_service *s, int fd);

#endif
