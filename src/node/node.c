/* SPDX-License-Identifier: Apache-2.0 */
/* node.c - the daemon put together: directories, store, controllers, API. */
#include "node/node.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "api/http.h"
#include "api/route.h"
#include "node/auth.h"
#include "node/boot.h"
#include "node/catalogues.h"
#include "node/certificate.h"
#include "node/cgroup.h"
#include "node/clock.h"
#include "node/controller.h"
#include "node/download.h"
#include "node/events.h"
#include "node/factor.h"
#include "node/files.h"
#include "node/health.h"
#include "node/image.h"
#include "node/instance.h"
#include "node/metrics.h"
#include "node/network.h"
#include "node/pool.h"
#include "node/profile.h"
#include "node/port.h"
#include "node/routes.h"
#include "node/serve.h"
#include "node/snapshot.h"
#include "node/task.h"
#include "node/template.h"
#include "node/ui.h"
#include "node/usage.h"
#include "node/vault.h"
#include "node/volume.h"
#include "node/work.h"
#include "store/store.h"
#include "util/checked.h"
#include "util/dirs.h"
#include "util/err.h"
#include "util/log.h"
#include "util/sd.h"
#include "util/unixsock.h"

/* Bytes that follow the run directory in the longest path of a socket: "/i/UID/console". */
enum { RUN_TAIL = 3 + 16 + 8, LOOKERS_STOP_MS = 1000 };

char *node_path(const char *dir, const char *name)
{
	char *path = NULL;

	return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

/* --- where things are ---------------------------------------------------- */

/* PATH, from the root on; it need not be there. */
static char *absolute(const char *path)
{
	AUTO(free) char *here = path[0] == '/' ? NULL : getcwd(NULL, 0);

	return path[0] == '/' ? strdup(path) : here ? node_path(here, path) : NULL;
}

/* PATH and what is above it; PATH must be ours alone. */
static int make_own_dir(const char *path, struct err *err)
{
	struct stat st;
	char above[PATH_MAX];

	for (const char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
		snprintf(above, sizeof(above), "%.*s", (int)(p - path), path);
		if (mkdir(above, 0755) < 0 && errno != EEXIST)
			return err_set(err, -errno, "cannot make '%s': %s", above, strerror(errno));
	}
	int r = files_make_dir(path, err);
	if (r < 0)
		return r;
	if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid())
		return err_set(err, -EPERM, "'%s' is not a directory of this user", path);
	if (st.st_mode & 077 && chmod(path, 0700) < 0)
		return err_set(err, -errno, "cannot make '%s' private: %s", path, strerror(errno));
	return 0;
}

static int make_dirs(struct node *n, const struct node_config *c, struct err *err)
{
	static const char *const in_data[] = { "instances", "images", "volumes" }, *const in_run[] = { "i", "n" };

	n->data_dir = c->data_dir ? absolute(c->data_dir) : dirs_data();
	n->run_dir = c->run_dir ? absolute(c->run_dir) : dirs_run();
	if (!n->data_dir || !n->run_dir)
		return err_set(err, -ENOMEM, "out of memory");
	if (strlen(n->run_dir) + RUN_TAIL > UNIXSOCK_PATH_MAX)
		return err_set(err, -ENAMETOOLONG, "'%s' is too long: sockets in it may have %d bytes", n->run_dir,
			       UNIXSOCK_PATH_MAX);
	int r = make_own_dir(n->data_dir, err);
	if (!r)
		r = make_own_dir(n->run_dir, err);
	for (unsigned k = 0; !r && k < ARRAY_LEN(in_data); k++) {
		AUTO(free) char *path = node_path(n->data_dir, in_data[k]);

		r = path ? files_make_dir(path, err) : err_set(err, -ENOMEM, "out of memory");
	}
	for (unsigned k = 0; !r && k < ARRAY_LEN(in_run); k++) {
		AUTO(free) char *path = node_path(n->run_dir, in_run[k]);

		r = path ? files_make_dir(path, err) : err_set(err, -ENOMEM, "out of memory");
	}
	return r ? r : boot_look(n, err);
}

/* --- the API ---------------------------------------------------- */

void node_show(struct api_call *c)
{
	struct node *n = c->arg;
	struct utsname u;

	uname(&u);
	api_reply(c, 200,
		  json_pack("{s:s, s:s, s:s, s:s, s:i, s:I, s:I, s:s, s:s, s:{s:b, s:s}, s:o, s:o*}", "kind", "node", "name", u.nodename,
			    "version", VIV_VERSION, "kernel", u.release, "cpus", (int)sysconf(_SC_NPROCESSORS_ONLN),
			    "memory", (json_int_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE), "revision",
			    (json_int_t)store_revision(n->store), "data_dir", n->data_dir, "run_dir", n->run_dir,
			    "control_groups", "own", !cgroups_reason(n->cgroups)[0], "reason", cgroups_reason(n->cgroups), "disk", health_view(n->health), "certificate", certificate_view(n->certificate)));
}

void node_show_openapi(struct api_call *c)
{
	struct node *n = c->arg;

	api_reply(c, 200, api_openapi(n->api));
}

static bool answered(void *arg, struct api_call *c, int status)
{
	metrics_count(arg, status);
	return auth_answered(arg, c, status);
}

const struct api_config node_api = {
	.routes = node_routes, .title = "Vivarium", .version = "1", .authorize = auth_authorize, .answered = answered,
};

static int open_vault(struct node *n, const struct node_config *c, struct err *err)
{
	AUTO(free) char *path = c->secrets_key ? absolute(c->secrets_key) : node_path(n->data_dir, "secrets.key");
	int r = path ? vault_open(&n->vault, path, c->rotates_secrets, err) : err_set(err, -ENOMEM, "out of memory");

	return r < 0 ? r : factor_open(n, err);
}

static int open_auth(struct node *n, const struct node_config *c, struct err *err)
{
	struct auth_config a = { .group = c->group, .has_network = c->n_listen > 0,
				 .group_role = c->group_role ? auth_role_of(c->group_role) : API_ADMIN };

	if (a.group_role == API_ANYONE)
		return err_set(err, -EINVAL, "'%s' is no role: viewer, operator or admin", c->group_role);
	return auth_open(&n->auth, n, &a, err);
}

/* --- life ---------------------------------------------------- */

int node_open(struct node **out, struct loop *loop, const struct node_config *c, struct err *err)
{
	AUTO(node_close) struct node *n = calloc(1, sizeof(*n));

	if (!n)
		return err_set(err, -ENOMEM, "out of memory");
	n->loop = loop;
	n->overcommit_memory = c->overcommit_memory;
	n->overcommit_cpus = c->overcommit_cpus;
	n->idle_seconds = c->idle_seconds;
	int r = make_dirs(n, c, err);
	if (r < 0)
		return r;
	AUTO(free) char *socket_path = node_path(n->run_dir, "api.sock");
	int listener = socket_path ? sd_take_listener(socket_path, err) : err_set(err, -ENOMEM, "out of memory");

	if (listener < 0 && listener != -ENOENT)
		return listener;
	n->listener = listener > 0 ? listener : 0;
	n->vmm = c->vmm ? strdup(c->vmm) : dirs_program("viv-vmm");
	n->viv = dirs_program("viv");
	n->image_tool = c->image_tool ? strdup(c->image_tool) : dirs_program("guest-image");
	r = download_config(n, c, err);
	if (!r)
		r = catalogues_config(n, c, err);
	if (r < 0)
		return r;
	if (!n->vmm)
		return err_set(err, -ENOENT,
			       "the program 'viv-vmm' is not installed beside vivd; --vmm says where it is");
	AUTO(free) char *db = node_path(n->data_dir, "store.db");
	r = db ? store_open(&n->store, loop, db, err) : err_set(err, -ENOMEM, "out of memory");
	if (!r)
		r = works_new(&n->works, loop, WORK_THREADS, err);
	if (!r)
		r = works_new(&n->writer, loop, 1, err);
	if (!r)
		r = works_new(&n->lookers, loop, WORK_THREADS, err);
	if (!r)
		r = health_open(&n->health, n, err);
	if (!r)
		r = clock_watch_open(&n->clock, loop, err);
	if (!r)
		r = cgroups_open(&n->cgroups, loop, n->data_dir, n->run_dir, err);
	if (!r)
		r = open_vault(n, c, err);
	if (!r)
		r = open_auth(n, c, err);
	if (!r)
		r = ports_open(&n->ports, n, err);
	if (!r)
		r = profile_users_open(&n->profile_users, n, err);
	if (!r)
		r = templates_open(&n->templates, n, c->templates, c->templates_size, err);
	if (!r)
		r = controller_open(&n->networks, n, &network_kind, err);
	if (!r)
		r = pools_init(n, err);
	if (!r)
		r = controller_open(&n->pools, n, &pool_kind, err);
	if (!r)
		r = controller_open(&n->volumes, n, &volume_kind, err);
	if (!r)
		r = controller_open(&n->images, n, &image_kind, err);
	if (!r)
		r = controller_open(&n->instances, n, &instance_kind, err);
	if (!r)
		r = controller_open(&n->snapshots, n, &snapshot_kind, err);
	if (!r)
		r = controller_open(&n->profiles, n, &profile_kind, err);
	if (!r)
		r = controller_open(&n->tasks, n, &task_kind, err);
	if (!r)
		r = usage_open(&n->usage, n, err);
	if (!r)
		r = ui_open(&n->ui, c->ui_dir, err);
	if (!r)
		r = serve_open(n, c, err);
	if (r < 0)
		return r;
	*out = take_ptr(&n);
	return 0;
}

void node_close(struct node *n)
{
	(void)node_end(n);
}

bool node_end(struct node *n)
{
	if (!n)
		return true;
	atomic_store(&n->is_closing, true);
	events_close(n);
	http_close(n->http);
	usage_close(n->usage);
	health_close(n->health);
	clock_watch_close(n->clock);
	auth_stop(n->auth);
	controller_stop(n->tasks);
	controller_stop(n->snapshots);
	controller_stop(n->instances);
	controller_stop(n->images);
	controller_stop(n->volumes);
	controller_stop(n->networks);
	controller_stop(n->pools);
	controller_stop(n->profiles);
	bool has_ended = works_stop(n->lookers, LOOKERS_STOP_MS);
	if (has_ended)
		works_free(n->lookers);
	has_ended &= pools_stop(n);
	works_free(n->works);
	ports_close(n->ports);
	n->ports = NULL;
	profile_users_close(n->profile_users);
	n->profile_users = NULL;
	store_close(n->store);
	vault_close(n->vault);
	auth_close(n->auth);
	if (!has_ended)
		return false;
	controller_close(n->tasks);     /* these let go of instances, */
	controller_close(n->instances);
	controller_close(n->snapshots); /* which still answer these */
	controller_close(n->images);
	controller_close(n->volumes);
	controller_close(n->networks);
	controller_close(n->pools);
	controller_close(n->profiles);
	works_drain(n->writer);
	works_free(n->writer);
	templates_close(n->templates);
	cgroups_close(n->cgroups);
	for (unsigned i = 0; i < n->n_listen; i++)
		free(n->listen[i]);
	certificate_close(n->certificate);
	ui_close(n->ui);
	free(n->api);
	free(n->data_dir);
	free(n->run_dir);
	free(n->vmm);
	free(n->viv);
	free(n->image_tool);
	free(n->catalogues);
	download_forget(n);
	free(n);
	return true;
}
