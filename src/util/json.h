/* SPDX-License-Identifier: Apache-2.0 */
/* json.h - jansson, with references that release themselves: AUTO(json_decref) json_t *doc = ...; */
#ifndef UTIL_JSON_H
#define UTIL_JSON_H

#include <jansson.h>
#include "util/cleanup.h"

DEFINE_AUTO(json_t *, json_decref)

#endif
