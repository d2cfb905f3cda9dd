// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The built programs that tests start. */

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** `packages` of this checkout, or what bundle-product.ts wrote, for scripts/test.sh, which sets TANDEM_TEST_PACKAGES. */
export const builtPackages: string =
  process.env['TANDEM_TEST_PACKAGES'] ?? fileURLToPath(new URL('../../packages', import.meta.url));

/** The program `tandem`, for Node.js. */
export const tandemMain: string = join(builtPackages, 'cli/dist/main.js');
