/* SPDX-License-Identifier: Apache-2.0 */
/* routes.c - the table of all that the API offers, and that of all kinds of documents. */
#include "node/routes.h"

#include "node/events.h"
#include "node/image.h"
#include "node/instance.h"
#include "node/node.h"
#include "node/resource.h"
#include "node/volume.h"

const struct resource resources[] = {
	{ .kind = "instance",
	  .plural = "instances",
	  .schema = &instance_schema,
	  .check = instance_check,
	  .has_controller = true },
	{ .kind = "image",
	  .plural = "images",
	  .schema = &image_schema,
	  .check = image_check,
	  .check_delete = image_check_delete,
	  .has_controller = true },
	{ .kind = "volume",
	  .plural = "volumes",
	  .schema = &volume_schema,
	  .check = volume_check,
	  .check_delete = volume_check_delete,
	  .has_controller = true },
	{ .kind = NULL },
};

#define QUERY_PROJECT "project=whose; 'default' unless given"
#define QUERY_DRY "dry-run=check and show the result, but change nothing"

/* The five operations that every kind has. */
#define RESOURCE_ROUTES(plural_, Kind_, what_, schema_) \
	{ .method = HTTP_GET, .path = "/v1/" plural_, .operation = "list" Kind_ "s", \
	  .summary = "All " what_ "s of a project.", \
	  .role = API_VIEWER, .status = 200, .run = resource_list, \
	  .query = QUERY_PROJECT "|labels=a=b,c: only those with these|limit=at most so many" \
				 "|after=only those behind this name" }, \
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

#define ACTION(name_, Name_, summary_) \
	{ .method = HTTP_POST, .path = "/v1/instances/{name}/" name_, .operation = Name_ "Instance", \
	  .summary = summary_, \
	  .role = API_OPERATOR, .status = 200, .query = QUERY_PROJECT, .run = instance_action }

const struct route node_routes[] = {
	RESOURCE_ROUTES("instances", "Instance", "instance", &instance_schema),
	ACTION("restart", "restart", "Press the power button, and start it again."),
	ACTION("reset", "reset", "Reset it at once, as the button on a PC does."),
	{ .method = HTTP_GET,
	  .path = "/v1/instances/{name}/stats",
	  .operation = "getInstanceStats",
	  .summary = "Counters of its processors and devices.",
	  .role = API_VIEWER,
	  .status = 200,
	  .query = QUERY_PROJECT,
	  .run = instance_stats },
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
	  .query = QUERY_PROJECT,
	  .run = instance_console },
	RESOURCE_ROUTES("images", "Image", "image", &image_schema),
	RESOURCE_ROUTES("volumes", "Volume", "volume", &volume_schema),
	{ .method = HTTP_GET,
	  .path = "/v1/events",
	  .operation = "watchEvents",
	  .summary = "Every change as it happens.",
	  .role = API_VIEWER,
	  .is_socket = true,
	  .status = 101,
	  .query = "from=go on after this revision",
	  .run = events_stream },
	{ .method = HTTP_GET,
	  .path = "/v1/node",
	  .operation = "getNode",
	  .summary = "This node.",
	  .role = API_VIEWER,
	  .status = 200,
	  .run = node_show },
	{ .method = HTTP_GET,
	  .path = "/v1/openapi.json",
	  .operation = "getOpenapi",
	  .summary = "This API, as OpenAPI 3.1.",
	  .role = API_ANYONE,
	  .status = 200,
	  .run = node_show_openapi },
	{ .path = NULL },
};
