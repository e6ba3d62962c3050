/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/control_net.h"

#include <errno.h>
#include <string.h>
#include "virtio/net.h"
#include "vm/machine_priv.h"

const struct control_param control_metadata_params[] = {
	{ "net", CONTROL_STRING, true, "NET", "its name, as `info` tells", NULL },
	{ "socket", CONTROL_SOCKET, true, "unix:PATH|fd:N", "a stream socket to whoever answers", NULL },
	{ .name = NULL },
};

int control_net_metadata(struct control_call *call, struct err *err)
{
	struct machine *m = control_machine(call->control);
	const char *name = control_get_string(call->params, "net", "");
	char buf[CONFIG_DISK_NAME_MAX + 1];

	for (unsigned i = 0; i < m->cfg->n_nets; i++) {
		if (strcmp(config_net_name(m->cfg, i, buf), name) != 0)
			continue;
		int r = m->net_dev[i] ? virtio_net_give_metadata(m->net_dev[i], call->fd[0]) : -ENOTSUP;
		if (!r)
			call->fd[0] = -1;
		if (r == -ENOSPC)
			return err_set(err, r, "enough connections wait to be used");
		return r < 0 ? err_set(err, r, "'%s' has no metadata service of its own; see nets[].metadata", name) : 0;
	}
	return err_set(err, -ENOENT, "there is no interface '%s'", name);
}
