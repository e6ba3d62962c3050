/* SPDX-License-Identifier: Apache-2.0 */
/* client_priv.h - a connection, as client.c (requests) and client_console.c (consoles) share it. */
#ifndef CLI_CLIENT_PRIV_H
#define CLI_CLIENT_PRIV_H

struct client {
	void *curl;
	char *socket;
	const char *project;
};

#endif
