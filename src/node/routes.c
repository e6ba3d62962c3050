/* SPDX-License-Identifier: Apache-2.0 */
/* routes.c - the table of all that the API offers, and that of all kinds of documents. */
#include "node/routes.h"

#include "node/auth.h"
#include "node/bulk.h"
#include "node/catalogues.h"
#include "node/content.h"
#include "node/disk_show.h"
#include "node/events.h"
#include "node/factor.h"
#include "node/flatten.h"
#include "node/guest.h"
#include "node/image.h"
#include "node/instance.h"
#include "node/metrics.h"
#include "node/network.h"
#include "node/node.h"
#include "node/pool.h"
#include "node/profile.h"
#include "node/quota.h"
#include "node/resource.h"
#include "node/resource_rename.h"
#include "node/snapshot.h"
#include "node/task.h"
#include "node/template.h"
#include "node/upload.h"
#include "node/usage.h"
#include "node/user.h"
#include "node/volume.h"
#include "node/volume_clone.h"
#include "node/volume_move.h"
#include "node/why.h"

const struct resource resources[] = {
	{ .kind = "instance",
	  .plural = "instances",
	  .schema = &instance_schema,
	  .check = instance_check,
	  .expand = instance_expand,
	  .add_ops = instance_add_ops,
	  .has_controller = true },
	{ .kind = "profile",
	  .plural = "profiles",
	  .schema = &profile_schema,
	  .check = profile_check,
	  .check_delete = profile_check_delete,
	  .expand = profile_expand,
	  .add_ops = profile_add_ops,
	  .has_controller = true },
	{ .kind = "image",
	  .plural = "images",
	  .schema = &image_schema,
	  .check = image_check, .looks_at = "spec.source.path", .look = image_look,
	  .check_delete = image_check_delete,
	  .has_controller = true },
	{ .kind = "volume",
	  .plural = "volumes",
	  .schema = &volume_schema,
	  .check = volume_check,
	  .check_delete = volume_check_delete,
	  .fill = volume_fill,
	  .has_controller = true },
	{ .kind = "pool",
	  .plural = "pools",
	  .schema = &pool_schema,
	  .check = pool_check, .looks_at = "spec.path", .look = pool_look,
	  .check_delete = pool_check_delete,
	  .space = RESOURCE_OF_NODE,
	  .has_controller = true },
	{ .kind = "network",
	  .plural = "networks",
	  .schema = &network_schema,
	  .check = network_check,
	  .check_delete = network_check_delete,
	  .fill = network_fill,
	  .has_controller = true },
	{ .kind = "snapshot", .plural = "snapshots", .schema = &snapshot_schema, .check = snapshot_check, .fill = snapshot_fill,
	  .space = RESOURCE_OF_INSTANCE, .has_controller = true },
	{ .kind = "task", .plural = "tasks", .schema = &task_schema, .has_controller = true },
	{ .kind = "project", .plural = "projects", .schema = &project_schema, .space = RESOURCE_OF_NODE },
	{ .kind = "role", .plural = "roles", .schema = &role_schema, .check = role_check, .fill = role_fill },
	{ .kind = "user", .plural = "users", .schema = &user_schema, .check = user_check, .space = RESOURCE_OF_NODE },
	{ .kind = "token", .plural = "tokens", .schema = &token_schema, .space = RESOURCE_OF_USER },
	{ .kind = NULL },
};

#define QUERY_PROJECT "project=whose; 'default' unless given"
#define QUERY_DRY "dry-run=check and show the result, but change nothing"

#define QUERY_HISTORY "span=the last so many seconds (3600)|points=in at most so many values (720)"
#define QUERY_USER "user=whose; who asks unless given"
#define QUERY_LIST \
	"labels=a=b,c: only those with these|limit=at most so many|after=only those behind this name" \
	"|filter=status.state=running,spec.cpus>1: all must hold; = != ~ (has in it) < >" \
	"|sort=status.since: by what is there, with '-' before it from the last|offset=leave out the first so many" \
	"|fields=name,status.state: only these of each"

/* The five operations that every kind of thing in a project has. */
#define RESOURCE_ROUTES(plural_, Kind_, what_, schema_) \
	{ .method = HTTP_GET, .path = "/v1/" plural_, .operation = "list" Kind_ "s", \
	  .summary = "All " what_ "s of a project.", \
	  .role = API_VIEWER, .out = schema_, .is_list = true, .status = 200, .run = resource_list, \
	  .query = QUERY_PROJECT "|" QUERY_LIST }, \
	{ .method = HTTP_POST, .path = "/v1/" plural_, .operation = "create" Kind_, \
	  .summary = "Make a new " what_ ".", \
	  .role = API_OPERATOR, .in = schema_, .out = schema_, .status = 201, .query = QUERY_PROJECT "|" QUERY_DRY, \
	  .run = resource_create }, \
	{ .method = HTTP_GET, .path = "/v1/" plural_ "/{name}", .operation = "get" Kind_, .summary = "One " what_ ".", \
	  .role = API_VIEWER, .out = schema_, .status = 200, .query = QUERY_PROJECT, .run = resource_get }, \
	{ .method = HTTP_PATCH, .path = "/v1/" plural_ "/{name}", .operation = "change" Kind_, \
	  .summary = "Change a " what_ " by a merge patch (RFC 7396).", .role = API_OPERATOR, .in = schema_, \
	  .is_patch = true, \
	  .out = schema_, .status = 200, .query = QUERY_PROJECT "|" QUERY_DRY, .run = resource_patch }, \
	{ .method = HTTP_DELETE, .path = "/v1/" plural_ "/{name}", .operation = "delete" Kind_, \
	  .summary = "Take a " what_ " away with all that belongs to it.", .role = API_OPERATOR, .status = 202, \
	  .query = QUERY_PROJECT "|" QUERY_DRY, .run = resource_delete }

#define ACTION(name_, Name_, summary_, query_) \
	{ .method = HTTP_POST, .path = "/v1/instances/{name}/" name_, .operation = Name_ "Instance", \
	  .summary = summary_, \
	  .role = API_OPERATOR, .status = 200, .query = query_, .run = instance_action }

/* And single ones of the others. */
#define LIST(path_, Kind_, summary_, schema_, role_, scope_, query_) \
	{ .method = HTTP_GET, .path = "/v1/" path_, .operation = "list" Kind_ "s", .summary = summary_, .role = role_, \
	  .scope = scope_, .out = schema_, .is_list = true, .status = 200, .query = query_, .run = resource_list }
#define MAKE(path_, Kind_, summary_, schema_, role_, scope_, query_, run_) \
	{ .method = HTTP_POST, .path = "/v1/" path_, .operation = "create" Kind_, .summary = summary_, .role = role_, \
	  .scope = scope_, .in = schema_, .out = schema_, .status = 201, .query = query_, .run = run_ }
#define SHOW(path_, Kind_, summary_, schema_, role_, scope_, query_) \
	{ .method = HTTP_GET, .path = "/v1/" path_, .operation = "get" Kind_, .summary = summary_, .role = role_, \
	  .scope = scope_, .out = schema_, .status = 200, .query = query_, .run = resource_get }
#define CHANGE(path_, Kind_, summary_, schema_, role_, scope_, query_) \
	{ .method = HTTP_PATCH, .path = "/v1/" path_, .operation = "change" Kind_, .summary = summary_, .role = role_, \
	  .scope = scope_, .in = schema_, .is_patch = true, .out = schema_, .status = 200, .query = query_, \
	  .run = resource_patch }
#define REMOVE(path_, Kind_, summary_, role_, scope_, query_, run_) \
	{ .method = HTTP_DELETE, .path = "/v1/" path_, .operation = "delete" Kind_, .summary = summary_, .role = role_, \
	  .scope = scope_, .status = 204, .query = query_, .run = run_ }

const struct route node_routes[] = {
	RESOURCE_ROUTES("instances", "Instance", "instance", &instance_schema),
	ACTION("restart", "restart", "Press the power button, and start it again.", QUERY_PROJECT "|" QUERY_DRY),
	ACTION("reset", "reset", "Reset it at once, as the button on a PC does.", QUERY_PROJECT),
	{ .method = HTTP_GET,
	  .path = "/v1/instances/{name}/stats",
	  .operation = "getInstanceStats",
	  .summary = "Counters of its processors and devices.",
	  .role = API_VIEWER,
	  .status = 200,
	  .query = QUERY_PROJECT,
	  .run = instance_stats },
	{ .method = HTTP_GET, .path = "/v1/instances/{name}/history", .operation = "getInstanceHistory",
	  .summary = "What it has used of processors, memory, disks and networks, for up to a month.", .role = API_VIEWER,
	  .status = 200, .query = QUERY_PROJECT "|" QUERY_HISTORY, .run = usage_history },
	{ .method = HTTP_GET, .path = "/v1/instances/{name}/guest", .operation = "getInstanceGuest",
	  .summary = "What the guest agent in it says: which system it is, and its addresses.", .role = API_VIEWER, .status = 200,
	  .query = QUERY_PROJECT, .run = guest_show },
	{ .method = HTTP_POST, .path = "/v1/instances/{name}/exec", .operation = "runInInstance",
	  .summary = "Run a program in it, by its guest agent, and wait for its end.", .role = API_OPERATOR, .in = &guest_exec_schema,
	  .status = 200, .query = QUERY_PROJECT, .run = guest_exec },
	{ .method = HTTP_GET, .path = "/v1/instances/{name}/file", .operation = "readInstanceFile",
	  .summary = "A piece of a file in it, as base64.", .role = API_OPERATOR, .status = 200,
	  .query = QUERY_PROJECT "|path=of the file|offset=where to begin", .run = guest_read },
	{ .method = HTTP_POST, .path = "/v1/instances/{name}/file", .operation = "writeInstanceFile",
	  .summary = "Write a piece of a file in it.", .role = API_OPERATOR, .in = &guest_write_schema, .status = 200,
	  .query = QUERY_PROJECT, .run = guest_write },
	{ .method = HTTP_GET, .path = "/v1/instances/{name}/why", .operation = "explainInstance",
	  .summary = "Why it is as it is: its state, its place, its slowness, its last failure.", .role = API_VIEWER,
	  .status = 200, .query = QUERY_PROJECT, .run = instance_why },
	{ .method = HTTP_GET,
	  .path = "/v1/instances/{name}/log",
	  .operation = "getInstanceLog",
	  .summary = "The last of what its console has said.",
	  .role = API_VIEWER,
	  .status = 200,
	  .query = QUERY_PROJECT,
	  .run = instance_log },
	{ .method = HTTP_GET,
	  .path = "/v1/instances/{name}/console",
	  .operation = "openInstanceConsole",
	  .summary = "Its console: bytes both ways.",
	  .role = API_OPERATOR,
	  .is_socket = true,
	  .status = 101,
	  .query = QUERY_PROJECT "|from=LINE:NUMBER: what follows this byte; empty: all that is kept",
	  .run = instance_console },
	LIST("instances/{instance}/snapshots", "Snapshot", "All snapshots of an instance.", &snapshot_schema, API_VIEWER,
	     API_PROJECT, QUERY_PROJECT "|" QUERY_LIST),
	MAKE("instances/{instance}/snapshots", "Snapshot", "Take a snapshot of all disks that it can write, and of its memory if that is wanted, at the same instant.",
	     &snapshot_schema, API_OPERATOR, API_PROJECT, QUERY_PROJECT "|" QUERY_DRY, resource_create),
	SHOW("instances/{instance}/snapshots/{name}", "Snapshot", "One snapshot.", &snapshot_schema, API_VIEWER, API_PROJECT,
	     QUERY_PROJECT),
	CHANGE("instances/{instance}/snapshots/{name}", "Snapshot", "Change its labels and what is said about it.",
	       &snapshot_schema, API_OPERATOR, API_PROJECT, QUERY_PROJECT "|" QUERY_DRY),
	REMOVE("instances/{instance}/snapshots/{name}", "Snapshot", "Take a snapshot away.", API_OPERATOR, API_PROJECT,
	       QUERY_PROJECT "|" QUERY_DRY, resource_delete),
	{ .method = HTTP_POST, .path = "/v1/instances/{instance}/snapshots/{name}/revert", .operation = "revertSnapshot",
	  .summary = "Make its disks what they were then. The power is cut when it is on, and is on again afterwards. With its memory "
	  "it goes on where it was, also when it is off now. A task.",
	  .role = API_OPERATOR, .out = &task_schema, .status = 202, .query = QUERY_PROJECT "|" QUERY_DRY, .run = snapshot_revert },
	{ .method = HTTP_POST, .path = "/v1/instances/{name}/clone", .operation = "cloneInstance",
	  .summary = "Make another one like this. A task.", .role = API_OPERATOR, .in = &clone_schema,
	  .out = &task_schema, .status = 202, .query = QUERY_PROJECT "|" QUERY_DRY, .run = instance_clone },
	{ .method = HTTP_POST, .path = "/v1/instances/{name}/flatten", .operation = "flattenInstance",
	  .summary = "Make its disks, and the volumes that it writes, independent of linked clones, also while it runs. A task.", .role = API_OPERATOR,
	  .in = &flatten_schema, .out = &task_schema, .status = 202, .query = QUERY_PROJECT "|" QUERY_DRY, .run = instance_flatten },
	{ .method = HTTP_POST, .path = "/v1/instances/{name}/rename", .operation = "renameInstance",
	  .summary = "Give it another name, with its snapshots, whether it runs or not. What runs in it learns of that when it starts the next "
	  "time.", .role = API_OPERATOR, .in = &rename_schema, .out = &instance_schema, .status = 200,
	  .query = QUERY_PROJECT "|" QUERY_DRY, .run = instance_rename },
	RESOURCE_ROUTES("profiles", "Profile", "profile", &profile_schema),
	{ .method = HTTP_POST, .path = "/v1/profiles/{name}/rename", .operation = "renameProfile",
	  .summary = "Give it another name: instances that use it follow. Not that of 'default', which has a meaning.", .role = API_OPERATOR,
	  .in = &rename_schema, .out = &profile_schema, .status = 200, .query = QUERY_PROJECT "|" QUERY_DRY, .run = profile_rename },
	{ .method = HTTP_POST, .path = "/v1/bulk", .operation = "doInBulk",
	  .summary = "Do the same to many things of a project: those that are named, or all that a selector finds. A task, whose result tells of each "
	  "what became of it.",
	  .role = API_OPERATOR, .in = &bulk_schema, .out = &task_schema, .status = 202, .query = QUERY_PROJECT "|" QUERY_DRY, .run = bulk_begin },
	LIST("tasks", "Task", "What takes long, and how far it is.", &task_schema, API_VIEWER, API_PROJECT,
	     QUERY_PROJECT "|" QUERY_LIST),
	SHOW("tasks/{name}", "Task", "One task.", &task_schema, API_VIEWER, API_PROJECT, QUERY_PROJECT),
	REMOVE("tasks/{name}", "Task", "Forget a task; one that runs is cancelled first.", API_OPERATOR, API_PROJECT, QUERY_PROJECT,
	       resource_delete),
	{ .method = HTTP_POST, .path = "/v1/tasks/{name}/cancel", .operation = "cancelTask",
	  .summary = "Ask a task to end before it is done.", .role = API_OPERATOR, .status = 202, .query = QUERY_PROJECT,
	  .run = task_cancel },
	RESOURCE_ROUTES("images", "Image", "image", &image_schema),
	{ .method = HTTP_GET, .path = "/v1/catalogues", .operation = "listCatalogues",
	  .summary = "Where images may be had, and how long ago was looked what there is.", .role = API_VIEWER, .scope = API_SELF, .status = 200,
	  .query = "image=only the catalogue that has it, and it alone in 'images': ubuntu:24.04", .run = catalogues_list },
	{ .method = HTTP_GET, .path = "/v1/catalogues/{name}", .operation = "getCatalogue",
	  .summary = "One catalogue, with all images that it has for this node's processors.", .role = API_VIEWER, .scope = API_SELF, .status = 200,
	  .run = catalogues_show },
	{ .method = HTTP_POST, .path = "/v1/catalogues/{name}/refresh", .operation = "refreshCatalogue",
	  .summary = "Look at its publisher's servers what there is now. A task.", .role = API_OPERATOR, .out = &task_schema, .status = 202,
	  .query = QUERY_PROJECT "|" QUERY_DRY, .run = catalogues_refresh },
	{ .method = HTTP_POST, .path = "/v1/images/{name}/warm", .operation = "warmImage",
	  .summary = "Keep a machine of it warm, from which instances of the same shape whose 'template' is 'auto' begin at once. A task.",
	  .role = API_OPERATOR, .in = &warm_schema, .out = &task_schema, .status = 202, .query = QUERY_PROJECT "|" QUERY_DRY,
	  .run = image_warm },
	{ .method = HTTP_POST, .path = "/v1/images/{name}/cool", .operation = "coolImage",
	  .summary = "Take all machines of it away that are kept warm. Instances that began as one stay.", .role = API_OPERATOR,
	  .out = &image_schema, .status = 200, .query = QUERY_PROJECT "|" QUERY_DRY, .run = image_cool },
	RESOURCE_ROUTES("volumes", "Volume", "volume", &volume_schema),
	{ .method = HTTP_GET, .path = "/v1/images/{name}/content", .operation = "getImageContent",
	  .summary = "Its disk, as a file: all of it, or the part that Range names.", .role = API_OPERATOR, .status = 200,
	  .query = QUERY_PROJECT, .run = image_content },
	{ .method = HTTP_GET, .path = "/v1/images/{name}/kernel", .operation = "getImageKernel",
	  .summary = "The kernel that machines of it are started with, if it has one of its own.", .role = API_OPERATOR, .status = 200,
	  .query = QUERY_PROJECT, .run = image_kernel },
	{ .method = HTTP_GET, .path = "/v1/images/{name}/initrd", .operation = "getImageInitrd",
	  .summary = "The initial RAM disk that goes with that kernel.", .role = API_OPERATOR, .status = 200, .query = QUERY_PROJECT,
	  .run = image_initrd },
	{ .method = HTTP_GET, .path = "/v1/images/{name}/disk", .operation = "getImageDisk",
	  .summary = "What its disk is made of, and which instances began as it.", .role = API_VIEWER, .out = &disk_show_schema, .status = 200,
	  .query = QUERY_PROJECT, .run = image_disk },
	{ .method = HTTP_GET, .path = "/v1/volumes/{name}/disk", .operation = "getVolumeDisk",
	  .summary = "What it is made of: format, sizes, what is below it, snapshots in it; and who has it.", .role = API_VIEWER,
	  .out = &disk_show_schema, .status = 200, .query = QUERY_PROJECT, .run = volume_disk },
	{ .method = HTTP_GET, .path = "/v1/volumes/{name}/content", .operation = "getVolumeContent",
	  .summary = "Its file, while no machine runs with it: all of it, or the part that Range names.", .role = API_OPERATOR,
	  .status = 200, .query = QUERY_PROJECT, .run = volume_content },
	{ .method = HTTP_PUT, .path = "/v1/images/{name}/content", .operation = "sendImageContent",
	  .summary = "Send the disk of an image whose source is 'upload', or the part that Content-Range names.", .role = API_OPERATOR,
	  .takes_bytes = true, .out = &upload_answer_schema, .status = 200, .query = QUERY_PROJECT, .run = image_receive },
	{ .method = HTTP_PUT, .path = "/v1/volumes/{name}/content", .operation = "sendVolumeContent",
	  .summary = "Send the disk of a volume whose source is 'upload', or the part that Content-Range names.", .role = API_OPERATOR,
	  .takes_bytes = true, .out = &upload_answer_schema, .status = 200, .query = QUERY_PROJECT, .run = volume_receive },
	{ .method = HTTP_POST, .path = "/v1/volumes/{name}/clone", .operation = "cloneVolume",
	  .summary = "Make another that begins as this one is now, also while a machine runs with it. A task.", .role = API_OPERATOR,
	  .in = &volume_clone_schema, .out = &task_schema, .status = 202, .query = QUERY_PROJECT "|" QUERY_DRY, .run = volume_clone },
	{ .method = HTTP_POST, .path = "/v1/volumes/{name}/flatten", .operation = "flattenVolume",
	  .summary = "Make a linked clone independent of the others, also while a machine runs with it. A task.", .role = API_OPERATOR,
	  .out = &task_schema, .status = 202, .query = QUERY_PROJECT "|" QUERY_DRY, .run = volume_flatten },
	{ .method = HTTP_POST, .path = "/v1/volumes/{name}/move", .operation = "moveVolume",
	  .summary = "Move it to another pool, also while a machine runs with it. A task.", .role = API_OPERATOR,
	  .in = &volume_move_schema, .out = &task_schema, .status = 202, .query = QUERY_PROJECT "|" QUERY_DRY, .run = volume_move },
	{ .method = HTTP_POST, .path = "/v1/volumes/{name}/rename", .operation = "renameVolume",
	  .summary = "Give it another name, also while a machine runs with it: instances and snapshots follow.", .role = API_OPERATOR,
	  .in = &rename_schema, .out = &volume_schema, .status = 200, .query = QUERY_PROJECT "|" QUERY_DRY, .run = volume_rename },
	{ .method = HTTP_POST, .path = "/v1/images/{name}/rename", .operation = "renameImage",
	  .summary = "Give it another name: instances that began as it follow.", .role = API_OPERATOR,
	  .in = &rename_schema, .out = &image_schema, .status = 200, .query = QUERY_PROJECT "|" QUERY_DRY, .run = image_rename },
	{ .method = HTTP_POST, .path = "/v1/networks/{name}/rename", .operation = "renameNetwork",
	  .summary = "Give it another name: instances that are plugged in follow, and stay so.", .role = API_ADMIN,
	  .in = &rename_schema, .out = &network_schema, .status = 200, .query = QUERY_PROJECT "|" QUERY_DRY, .run = network_rename },
	LIST("networks", "Network", "All networks of a project.", &network_schema, API_VIEWER, API_PROJECT,
	     QUERY_PROJECT "|" QUERY_LIST),
	MAKE("networks", "Network", "Make a new network.", &network_schema, API_ADMIN, API_PROJECT, QUERY_PROJECT "|" QUERY_DRY,
	     resource_create),
	SHOW("networks/{name}", "Network", "One network.", &network_schema, API_VIEWER, API_PROJECT, QUERY_PROJECT),
	CHANGE("networks/{name}", "Network", "Change a network by a merge patch (RFC 7396).", &network_schema, API_ADMIN,
	       API_PROJECT, QUERY_PROJECT "|" QUERY_DRY),
	{ .method = HTTP_DELETE, .path = "/v1/networks/{name}", .operation = "deleteNetwork",
	  .summary = "Take a network away, into which nothing is plugged.", .role = API_ADMIN, .status = 202,
	  .query = QUERY_PROJECT "|" QUERY_DRY, .run = resource_delete },
	{ .method = HTTP_GET, .path = "/v1/networks/{name}/doctor", .operation = "getNetworkDoctor",
	  .summary = "What is wrong with a network, and which rule of somebody else is in its way.", .role = API_OPERATOR,
	  .status = 200, .query = QUERY_PROJECT, .run = network_doctor },
	{ .method = HTTP_GET, .path = "/v1/ports", .operation = "listPorts", .summary = "Interfaces of instances on networks.",
	  .role = API_VIEWER, .status = 200, .query = QUERY_PROJECT "|network=only those on it", .run = network_list_ports },
	LIST("pools", "Pool", "All places where disks may live.", &pool_schema, API_VIEWER, API_SELF, QUERY_LIST),
	MAKE("pools", "Pool", "Make a directory of the node a pool.", &pool_schema, API_ADMIN, API_NODE, QUERY_DRY, resource_create),
	SHOW("pools/{name}", "Pool", "One pool.", &pool_schema, API_VIEWER, API_SELF, NULL),
	CHANGE("pools/{name}", "Pool", "Change from when on a pool warns, and takes nothing new.", &pool_schema, API_ADMIN, API_NODE,
	       QUERY_DRY),
	{ .method = HTTP_DELETE, .path = "/v1/pools/{name}", .operation = "deletePool", .role = API_ADMIN, .scope = API_NODE,
	  .summary = "Take away a pool that is empty; its directory stays.", .status = 202, .query = QUERY_DRY, .run = resource_delete },
	LIST("projects", "Project", "All projects in which one may something.", &project_schema, API_VIEWER, API_SELF, QUERY_LIST),
	MAKE("projects", "Project", "Make a new project.", &project_schema, API_ADMIN, API_NODE, QUERY_DRY, resource_create),
	SHOW("projects/{project}", "Project", "One project.", &project_schema, API_VIEWER, API_PROJECT, NULL),
	CHANGE("projects/{project}", "Project", "Change a project.", &project_schema, API_ADMIN, API_NODE, QUERY_DRY),
	REMOVE("projects/{project}", "Project", "Take an empty project away.", API_ADMIN, API_NODE, QUERY_DRY, project_delete),
	{ .method = HTTP_GET, .path = "/v1/projects/{project}/usage", .operation = "getProjectUsage",
	  .summary = "How much a project has of what its quota limits.", .role = API_VIEWER, .status = 200,
	  .run = quota_show_usage },
	LIST("roles", "Role", "Who may what in a project.", &role_schema, API_VIEWER, API_PROJECT, QUERY_PROJECT "|" QUERY_LIST),
	MAKE("roles", "Role", "Let a user into a project.", &role_schema, API_ADMIN, API_PROJECT,
	     QUERY_PROJECT "|" QUERY_DRY, resource_create),
	SHOW("roles/{user}", "Role", "What a user may in a project.", &role_schema, API_VIEWER, API_PROJECT, QUERY_PROJECT),
	CHANGE("roles/{user}", "Role", "Let a user do more or less in a project.", &role_schema, API_ADMIN, API_PROJECT,
	       QUERY_PROJECT "|" QUERY_DRY),
	REMOVE("roles/{user}", "Role", "A user may nothing more in a project.", API_ADMIN, API_PROJECT,
	       QUERY_PROJECT "|" QUERY_DRY, resource_delete),
	LIST("users", "User", "All users.", &user_schema, API_VIEWER, API_NODE, QUERY_LIST),
	MAKE("users", "User", "Make a new user, who cannot log in before a password is set.", &user_schema, API_ADMIN, API_NODE,
	     QUERY_DRY, resource_create),
	SHOW("users/{user}", "User", "One user.", &user_schema, API_VIEWER, API_SELF, NULL),
	CHANGE("users/{user}", "User", "Change a user.", &user_schema, API_ADMIN, API_NODE, QUERY_DRY),
	REMOVE("users/{user}", "User", "Take a user away, with roles, tokens and sessions.", API_ADMIN, API_NODE, QUERY_DRY,
	       user_delete),
	{ .method = HTTP_POST, .path = "/v1/users/{user}/password", .operation = "setPassword",
	  .summary = "Set a user's password, which ends the user's other sessions.", .role = API_VIEWER, .scope = API_SELF,
	  .in = &password_schema, .status = 204, .run = user_set_password },
	{ .method = HTTP_GET, .path = "/v1/users/{user}/totp", .operation = "getTotp",
	  .summary = "Does a user show a code of an authenticator (RFC 6238) besides the password?", .role = API_VIEWER,
	  .scope = API_SELF, .out = &totp_schema, .status = 200, .run = factor_show },
	{ .method = HTTP_POST, .path = "/v1/users/{user}/totp", .operation = "beginTotp",
	  .summary = "Get a key for one's own authenticator, which counts when it is confirmed. Only this answer has it.",
	  .role = API_VIEWER, .scope = API_SELF, .in = &totp_begin_schema, .out = &totp_key_schema, .status = 201,
	  .run = factor_begin },
	{ .method = HTTP_POST, .path = "/v1/users/{user}/totp/confirm", .operation = "confirmTotp",
	  .summary = "Show the first code: from now on the password alone is not enough. The answer has the recovery codes.",
	  .role = API_VIEWER, .scope = API_SELF, .in = &totp_confirm_schema, .out = &totp_recovery_schema, .status = 200,
	  .run = factor_confirm },
	{ .method = HTTP_POST, .path = "/v1/users/{user}/totp/remove", .operation = "removeTotp",
	  .summary = "Let the password alone be enough again, of a user who has lost the authenticator, say.", .role = API_VIEWER,
	  .scope = API_SELF, .in = &totp_remove_schema, .status = 204, .run = factor_remove },
	LIST("tokens", "Token", "A user's tokens.", &token_schema, API_VIEWER, API_SELF, QUERY_USER "|" QUERY_LIST),
	MAKE("tokens", "Token", "Make a token. Only this answer has it.", &token_schema, API_VIEWER, API_SELF,
	     QUERY_USER "|" QUERY_DRY, token_create),
	SHOW("tokens/{name}", "Token", "One token, without what lets in.", &token_schema, API_VIEWER, API_SELF, QUERY_USER),
	REMOVE("tokens/{name}", "Token", "Take a token away.", API_VIEWER, API_SELF, QUERY_USER "|" QUERY_DRY, token_delete),
	{ .method = HTTP_GET, .path = "/v1/setup", .operation = "getSetup",
	  .summary = "Has the first administrator to be made?", .role = API_ANYONE, .status = 200, .run = auth_show_setup },
	{ .method = HTTP_POST, .path = "/v1/setup", .operation = "setUp",
	  .summary = "Make the first administrator with the token that vivd has printed, and log in.", .role = API_ANYONE,
	  .in = &setup_schema, .out = &session_schema, .status = 201, .run = auth_setup },
	{ .method = HTTP_POST, .path = "/v1/login", .operation = "logIn",
	  .summary = "Begin a session: the answer sets a cookie.", .role = API_ANYONE, .in = &login_schema,
	  .out = &session_schema, .status = 200, .run = auth_login },
	{ .method = HTTP_POST, .path = "/v1/logout", .operation = "logOut", .summary = "End the session.", .role = API_VIEWER,
	  .scope = API_SELF, .status = 204, .run = auth_logout },
	{ .method = HTTP_GET, .path = "/v1/session", .operation = "getSession", .summary = "Who asks, and what that one may.",
	  .role = API_VIEWER, .scope = API_SELF, .out = &session_schema, .status = 200, .run = auth_show_session },
	{ .method = HTTP_GET, .path = "/v1/audit", .operation = "listAudit", .summary = "Who has changed what, the last ones.",
	  .role = API_ADMIN, .scope = API_NODE, .status = 200, .run = audit_list,
	  .query = "limit=at most so many, the last ones|before=only records before this number|user=only this one's"
		   "|of-project=only what was done there" },
	{ .method = HTTP_GET, .path = "/v1/audit/verify", .operation = "verifyAudit",
	  .summary = "Is the audit log as it was written?", .role = API_ADMIN, .scope = API_NODE, .status = 200,
	  .run = audit_show_check },
	{ .method = HTTP_GET,
	  .path = "/v1/events",
	  .operation = "watchEvents",
	  .summary = "Every change of what one may see, as it happens.",
	  .role = API_VIEWER,
	  .scope = API_SELF,
	  .is_socket = true,
	  .status = 101,
	  .query = "from=go on after this revision|usage=1: and every few seconds what is used",
	  .run = events_stream },
	{ .method = HTTP_GET,
	  .path = "/v1/node",
	  .operation = "getNode",
	  .summary = "This node.",
	  .role = API_VIEWER,
	  .scope = API_NODE,
	  .status = 200,
	  .run = node_show },
	{ .method = HTTP_GET, .path = "/v1/node/history", .operation = "getNodeHistory",
	  .summary = "What was used on this node, for up to a month.", .role = API_VIEWER, .scope = API_NODE, .status = 200,
	  .query = QUERY_HISTORY, .run = usage_node_history },
	{ .method = HTTP_GET, .path = "/v1/usage", .operation = "getUsage",
	  .summary = "What everything that one may see uses now.", .role = API_VIEWER, .scope = API_SELF, .status = 200,
	  .run = usage_show },
	{ .method = HTTP_GET, .path = "/v1/metrics", .operation = "getMetrics",
	  .summary = "Counters of the node and of all instances, as Prometheus reads them.", .role = API_VIEWER, .scope = API_NODE,
	  .status = 200, .run = metrics_show },
	{ .method = HTTP_GET,
	  .path = "/v1/openapi.json",
	  .operation = "getOpenapi",
	  .summary = "This API, as OpenAPI 3.1.",
	  .role = API_ANYONE,
	  .status = 200,
	  .run = node_show_openapi },
	{ .path = NULL },
};
