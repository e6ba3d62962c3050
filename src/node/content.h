/* SPDX-License-Identifier: Apache-2.0 */
/* content.h - the files of images and volumes, for whoever takes them elsewhere, or brings them, in parts
 * if wanted. Loop thread. */
#ifndef NODE_CONTENT_H
#define NODE_CONTENT_H

struct api_call;

void image_content(struct api_call *c);         /* GET /v1/images/{name}/content */
void image_kernel(struct api_call *c);          /* GET /v1/images/{name}/kernel */
void image_initrd(struct api_call *c);          /* GET /v1/images/{name}/initrd */
/* GET /v1/volumes/{name}/content; its file is locked until the client has it, or goes away. */
void volume_content(struct api_call *c);

/* PUT of the same: a part of an upload (upload.h). */
void image_receive(struct api_call *c);
void volume_receive(struct api_call *c);

#endif
