/* SPDX-License-Identifier: Apache-2.0 */
/* layers.h - documents that are made of layers: profiles in order, each on top of those before, and what the document says of itself
 * ('own') on top of all. A layer is what the schema S says: fields of 'spec', and 'labels'. Pure functions; any thread.
 *
 * The document has both: 'spec' and 'labels' as they are in the end, which everybody reads, and 'own'. So a change is told by what
 * differs from what is there: who reads all, changes one field and sends all back makes that one field the document's own. */
#ifndef NODE_LAYERS_H
#define NODE_LAYERS_H

#include <jansson.h>
#include "api/schema.h"

/* What DOC says of itself; of a document from before there were layers, what differs from FULL, the schema of its spec. New
 * reference; NULL: out of memory. */
json_t *layers_own(const struct schema *s, const struct schema *full, const json_t *doc);

/* OWN (changed) after the merge patch SENT of a document, which was OLD (NULL: it is new, and all that was sent is its own). */
void layers_change(const struct schema *s, json_t *own, const json_t *old, const json_t *sent);

/* DOC, which was OLD with OLD_OWN (both NULL: it is new), gets OWN on top of PROFILES (a list of documents): 'spec' and 'labels', but for what is there
 * by default, 'own', and 'inherited', which tells the profiles and which field comes from which. Fields of 'spec' that S does not know
 * stay. */
void layers_apply(const struct schema *s, json_t *doc, const json_t *old, const json_t *old_own, const json_t *profiles, json_t *own);

/* What differs from OLD to DOC in 'spec' and 'labels': a list of {"field", "from", "to"}. New reference. */
json_t *layers_difference(const json_t *old, const json_t *doc);

#endif
