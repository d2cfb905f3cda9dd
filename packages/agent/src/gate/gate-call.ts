// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A call of the CNI plugin `tandem-gate` (packages/cni-gate/native/gate.c): a line with the protocol's version, a
 * line for each variable, an empty line, the network configuration. The answer: '+' or '!', JSON, a line break.
 */

import { isFields } from '@tandem/core/k8s/shape';
import { err, ok, type Result } from '@tandem/core/result';

/** Error codes of the CNI specification. */
export const cniCode = { invalidEnvironment: 4, decodingFailure: 6, tryAgainLater: 11 } as const;

export interface PodIdentity {
  readonly namespace: string;
  readonly name: string;
  /** metadata.uid; of a static pod, the hash that kubelet gives it. */
  readonly uid: string;
}

export interface GateCall {
  readonly command: string;
  /** Id of the sandbox. */
  readonly containerId: string;
  /** CNI_IFNAME. */
  readonly interfaceName: string;
  readonly pod: PodIdentity;
  readonly cniVersion: string;
  /** Result of the preceding plugins; undefined for DEL. */
  readonly prevResult: unknown;
}

export interface CallError {
  readonly code: number;
  readonly message: string;
  readonly cniVersion: string;
}

const protocolLine = 'tandem-gate 1';

export function readCall(text: string): Result<GateCall, CallError> {
  const end = text.indexOf('\n\n');
  const lines = end < 0 ? [] : text.slice(0, end).split('\n');
  if (lines[0] !== protocolLine) {
    return failed(
      cniCode.invalidEnvironment,
      `the plugin does not speak '${protocolLine}': it is of another version than the agent`,
    );
  }
  const variables = new Map(lines.slice(1).map(splitAtEquals));
  let config: unknown;
  try {
    config = JSON.parse(text.slice(end + 2));
  } catch {
    return failed(cniCode.decodingFailure, 'the network configuration is no JSON');
  }
  if (!isFields(config)) {
    return failed(cniCode.decodingFailure, 'the network configuration is no object');
  }
  const { cniVersion, prevResult } = config;
  const version = typeof cniVersion === 'string' ? cniVersion : '1.0.0';
  const args = new Map((variables.get('CNI_ARGS') ?? '').split(';').map(splitAtEquals));
  const pod = {
    namespace: args.get('K8S_POD_NAMESPACE') ?? '',
    name: args.get('K8S_POD_NAME') ?? '',
    uid: args.get('K8S_POD_UID') ?? '',
  };
  if (pod.namespace === '' || pod.name === '') {
    return failed(
      cniCode.invalidEnvironment,
      'CNI_ARGS has no K8S_POD_NAMESPACE and K8S_POD_NAME: the runtime is not one of Kubernetes',
      version,
    );
  }
  return ok({
    command: variables.get('CNI_COMMAND') ?? '',
    containerId: variables.get('CNI_CONTAINERID') ?? '',
    interfaceName: variables.get('CNI_IFNAME') ?? '',
    pod,
    cniVersion: version,
    prevResult,
  });
}

export function successAnswer(result: unknown): string {
  return `+${JSON.stringify(result)}\n`;
}

export function errorAnswer({ code, message, cniVersion }: CallError): string {
  return `!${JSON.stringify({ cniVersion, code, msg: message })}\n`;
}

function failed(code: number, message: string, cniVersion = '1.0.0'): Result<never, CallError> {
  return err({ code, message, cniVersion });
}

function splitAtEquals(text: string): readonly [key: string, value: string] {
  const at = text.indexOf('=');
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}
