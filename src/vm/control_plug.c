/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/control_plug.h"

#include <errno.h>
#include "blk/blk.h"
#include "vm/config.h"
#include "vm/drive.h"
#include "vm/plug.h"

const struct control_param control_plug_params[] = {
	{ "type", CONTROL_CHOICE, true, "disk|cdrom|net|console|hvc|rng|balloon|vsock|agent", "what it is",
	  "disk cdrom net console hvc rng balloon vsock agent" },
	{ "settings", CONTROL_STRING, false, "SETTINGS", "as the value of --disk, --cdrom, --net or --console; of a vsock `path=PATH,cid=N`; of the others "
	  "nothing", NULL },
	{ "image-path", CONTROL_STRING, false, "image-path=PATH", "the name of the disk's image, of the drive's medium, or of the console's or vsock's file or socket, which a saved machine looks for; "
	  "`viv-vmm ctl` says it",
	  NULL },
	{ "backend", CONTROL_DEVICE, false, "", "the image, open as the settings say, the tap interface, with IFF_NO_PI and IFF_VNET_HDR, the console's "
	  "file, or its socket or that of a vsock, which listens; "
	  "none: it is opened by its name, which a machine in a jail may not do", NULL },
	{ "files", CONTROL_STRINGS, false, "files=NAME", "names of what else a disk needs: each backing image as it is called in the chain, the key file, "
	  "and with direct=on each image once more; `viv-vmm ctl` says them", NULL },
	{ "handed", CONTROL_FILES, false, "", "those files, open as they are needed, in the order of their names", NULL },
	{ .name = NULL },
};

const struct control_param control_unplug_params[] = {
	{ "device", CONTROL_STRING, true, "DEVICE", "its name, as `info` tells", NULL },
	{ "force", CONTROL_BOOL, false, "--force", "do not ask the guest", NULL },
	{ .name = NULL },
};

int control_plug(struct control_call *call, struct err *err)
{
	struct plug_device d = {
		.kind = control_get_string(call->params, "type", ""), .settings = control_get_string(call->params, "settings", ""),
		.path = control_get_string(call->params, "image-path", NULL), .fd = call->fd[0],
	};
	const json_t *names = json_object_get(call->params, "files");
	struct blk_handed files[CONTROL_FDS_MAX];
	char name[CONFIG_DISK_NAME_MAX + 1];

	if (call->n_fds > 1 ? call->n_fds - 1 != json_array_size(names) : json_array_size(names))
		return err_set(err, -EINVAL, "files: there must be a descriptor for each, behind that of the backend");
	for (d.files = files; d.n_files + 1 < call->n_fds; d.n_files++)
		files[d.n_files] = (struct blk_handed){ json_string_value(json_array_get(names, d.n_files)), call->fd[d.n_files + 1] };
	int r = machine_plug(control_machine(call->control), &d, name, sizeof(name), err);

	if (r < 0)
		return r;
	call->result = json_pack("{s:s}", "device", name);
	return call->result ? 0 : err_set(err, -ENOMEM, "out of memory");
}

int control_unplug(struct control_call *call, struct err *err)
{
	return machine_unplug(control_machine(call->control), control_get_string(call->params, "device", ""),
			      control_get_bool(call->params, "force", false), err);
}

const struct control_param control_eject_params[] = {
	{ "device", CONTROL_STRING, true, "DEVICE", "the drive's name, as `info` tells", NULL },
	{ "force", CONTROL_BOOL, false, "--force", "although the guest has locked it", NULL },
	{ .name = NULL },
};

const struct control_param control_insert_params[] = {
	{ "device", CONTROL_STRING, true, "DEVICE", "the drive's name, as `info` tells", NULL },
	{ "path", CONTROL_STRING, true, "FILE", "the image, which a saved machine looks for by this name", NULL },
	{ "format", CONTROL_STRING, false, "format=FORMAT", "its format; default: by content", NULL },
	{ "medium", CONTROL_DEVICE, false, "", "the image, open for reading; none: it is opened by its name, which a machine in a jail may not do",
	  NULL },
	{ .name = NULL },
};

int control_eject(struct control_call *call, struct err *err)
{
	return machine_eject(control_machine(call->control), control_get_string(call->params, "device", ""),
			     control_get_bool(call->params, "force", false), err);
}

int control_insert(struct control_call *call, struct err *err)
{
	struct machine_medium medium = {
		.path = control_get_string(call->params, "path", ""), .format = control_get_string(call->params, "format", NULL),
		.fd = call->fd[0],
	};

	return machine_insert(control_machine(call->control), control_get_string(call->params, "device", ""), &medium, err);
}
