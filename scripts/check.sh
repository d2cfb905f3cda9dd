#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copyright The Tandem Authors
#
# Formatting, lint, types, generated pages, texts for operators, exports. Called by ./run check and by ./run test.
set -euo pipefail
pnpm exec biome check --error-on-warnings .
pnpm exec oxlint --deny-warnings
pnpm exec tsc -p tsconfig.check.json
node --conditions=@tandem/source --disable-warning=ExperimentalWarning packages/datapath/scripts/generate-abi.ts --check
node --conditions=@tandem/source --disable-warning=ExperimentalWarning scripts/generate-docs.ts --check
node --conditions=@tandem/source --disable-warning=ExperimentalWarning scripts/check-texts.ts
node --disable-warning=ExperimentalWarning scripts/check-glossary.ts
node --disable-warning=ExperimentalWarning scripts/check-exports.ts
node --disable-warning=ExperimentalWarning scripts/check-comments.ts
