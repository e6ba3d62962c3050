/* SPDX-License-Identifier: Apache-2.0 */
/* virtio/rng.h - the entropy device (VIRTIO 1.2, 5.4). Bytes come from env->source. */
#ifndef VIRTIO_RNG_H
#define VIRTIO_RNG_H

#include "virtio/virtio.h"

int virtio_rng_new(struct virtio_dev **out, const struct virtio_env *env, struct err *err);

#endif
