// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The controller's process. */

import { inClusterEndpoint } from '@tandem/kube/endpoint';
import { readKubeconfig } from '@tandem/kube/kubeconfig';
import { exitCodes, Lifecycle } from '@tandem/runtime/lifecycle';
import { startProgram } from '@tandem/runtime/program-start';
import { controllerConfigSpec } from './config.ts';
import { Controller } from './controller.ts';
import { version } from './version.ts';

async function main(): Promise<number> {
  const started = startProgram(controllerConfigSpec, version);
  if (typeof started === 'number') return started;
  const { config, log } = started;
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
