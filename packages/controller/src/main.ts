// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The controller's process. */

import { inClusterEndpoint } from '@tandem/kube/endpoint';
import { readKubeconfig } from '@tandem/kube/kubeconfig';
import { loadConfig, systemSources } from '@tandem/runtime/config';
import { helpText } from '@tandem/runtime/config-text';
import { exitCodes, Lifecycle } from '@tandem/runtime/lifecycle';
import { createLogger } from '@tandem/runtime/log';
import { controllerConfigSpec } from './config.ts';
import { Controller } from './controller.ts';
import { version } from './version.ts';

async function main(): Promise<number> {
  const { program } = controllerConfigSpec;
  const loaded = loadConfig(controllerConfigSpec, systemSources());
  if (loaded.kind === 'help') {
    process.stdout.write(helpText(controllerConfigSpec));
    return exitCodes.ok;
  }
  if (loaded.kind === 'version') {
    process.stdout.write(`${version}\n`);
    return exitCodes.ok;
  }
  if (loaded.kind === 'error') {
    for (const error of loaded.errors) process.stderr.write(`${program}: ${error}\n`);
    return exitCodes.usage;
  }
  const { config, warnings } = loaded;
  const log = createLogger({ program, level: config.logLevel, format: config.logFormat });
  for (const warning of warnings) log.warn(warning);
  const endpoint =
    config.kubeconfig === ''
      ? inClusterEndpoint(process.env)
      : await readKubeconfig(config.kubeconfig);
  if (!endpoint.ok) {
    log.error('start failed', { problem: endpoint.error });
    return exitCodes.startFailed;
  }
  const lifecycle = new Lifecycle({ log });
  lifecycle.add(new Controller({ config, endpoint: endpoint.value, log }));
  return lifecycle.run();
}

process.exitCode = await main();
process.exit();
