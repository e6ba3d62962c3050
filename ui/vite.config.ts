// SPDX-License-Identifier: Apache-2.0
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { constants, gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

// Beside each file its packed form, which the daemon sends to who takes it.
function packed(): Plugin {
	let dir = "";
	return {
		name: "packed",
		apply: "build",
		configResolved: (c) => void (dir = resolve(c.root, c.build.outDir)),
		closeBundle() {
			for (const name of readdirSync(dir, { recursive: true }) as string[])
				if (/\.(html|js|css|svg)$/.test(name))
					writeFileSync(join(dir, `${name}.gz`), gzipSync(readFileSync(join(dir, name)), { level: constants.Z_BEST_COMPRESSION }));
		},
	};
}

// Everything is served by vivd itself from one origin; nothing is inlined, for its content security policy.
export default defineConfig({
	plugins: [packed()],
	esbuild: { jsx: "automatic", jsxImportSource: "preact", legalComments: "none" },
	build: { outDir: "../build/ui", emptyOutDir: true, target: "es2022", assetsInlineLimit: 0, modulePreload: { polyfill: false }, chunkSizeWarningLimit: 600 },
});
