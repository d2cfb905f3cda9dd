// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Compilations: the one in force, and those that the kernel may hold in part because applying them
 * failed. Only these take part in the next one. A compilation that failed before it reached the kernel
 * is forgotten, so that a fault that is corrected is gone with the next revision.
 */

import type { PolicyId, Revision } from '@tandem/core/ids';
import { FittingCompiler } from '@tandem/core/policy/compile/fit';
import { type Budgets, nodeBudgets } from '@tandem/core/policy/compile/fit-costs';
import type { ClusterState, NodeContext } from '@tandem/core/policy/model/cluster-state';
import type {
  Compiled,
  CompiledPolicy,
  Diagnostic,
  MemberPolicy,
} from '@tandem/core/policy/model/desired';
import type { StableIds } from '@tandem/core/policy/model/stable-ids';
import { partialMax } from '../limits.ts';

/** Compiler of a cluster. */
export type PolicyCompilation = Pick<FittingCompiler, 'compile'>;

export class Compilations {
  readonly #served: MemberPolicy | null;
  readonly #compiler: PolicyCompilation;
  #ids: StableIds;
  #applied: Compiled | null = null;
  #partial: readonly Compiled[] = [];
  /** Policy that all members serve, except members that lag behind; null while unknown. */
  #installed: MemberPolicy | null = null;
  /** State that was compiled last; null if it has to be compiled again. */
  #cluster: ClusterState | null = null;
  #node = '';
  #diagnostics: readonly Diagnostic[] | null = null;

  /** `served`: what members served before this process started. */
  constructor(
    ids: StableIds,
    served: MemberPolicy | null,
    budgets: Budgets = nodeBudgets,
    compiler: PolicyCompilation = new FittingCompiler(budgets),
  ) {
    this.#compiler = compiler;
    this.#ids = ids;
    this.#served = served;
  }

  get applied(): Compiled | null {
    return this.#applied;
  }

  /** Diagnostics of the newest compilation, in force or not; null before the first. */
  get diagnostics(): readonly Diagnostic[] | null {
    return this.#diagnostics;
  }

  /** Policies that the kernel may hold. */
  get retained(): ReadonlyMap<PolicyId, CompiledPolicy> {
    return new Map(this.#inKernel.flatMap(({ policies }) => [...policies]));
  }

  get #inKernel(): readonly Compiled[] {
    return this.#applied === null ? this.#partial : [this.#applied, ...this.#partial];
  }

  /** The cluster as it is; what is applied when nothing changed, null when nothing is and nothing fits. */
  compile(cluster: ClusterState, node: NodeContext, revision: Revision): Compiled | null {
    // The periodic reconciliation restores the kernel's maps; compiling the same state again would cost a large
    // cluster's agent half a second of every five.
    const input = JSON.stringify(node);
    const isSameInput = cluster === this.#cluster && input === this.#node;
    if (this.#applied !== null && this.#partial.length === 0 && isSameInput) return this.#applied;
    const compiled = this.#compiler.compile(
      cluster,
      {
        node,
        revision,
        retain: this.#inKernel,
        // Until this process has applied a policy, kernel endpoints may name policies of the previous process.
        ...(this.#served === null || this.#applied !== null ? {} : { served: this.#served }),
      },
      this.#ids,
    );
    this.#diagnostics = compiled.diagnostics;
    this.#cluster = cluster;
    this.#node = input;
    if (!compiled.fits) return this.#applied;
    this.#ids = compiled.ids;
    const served = this.#installed;
    if (served === null || !isForSameMembers(compiled.members, served)) return compiled;
    const applied = this.#applied;
    const isSame = applied?.members === served && meansTheSame(compiled, applied);
    return isSame ? applied : { ...compiled, members: served };
  }

  /** Whether members serve what it has for them: nothing of it is to be published. */
  isInstalled({ members }: Compiled): boolean {
    return members === this.#installed;
  }

  /** Another policy is being sent to members: until `begin` it is not known which one they serve. */
  publishing(): void {
    this.#installed = null;
  }

  /** From here on the kernel may hold some of it. */
  begin(compiled: Compiled): void {
    this.#installed = compiled.members;
    this.#partial = [...this.#partial, compiled].slice(-partialMax);
  }

  succeeded(compiled: Compiled): void {
    this.#applied = compiled;
    this.#partial = [];
  }

  /** `inUse`: policies that endpoints have in the kernel; null when that is not known. */
  failed(inUse: ReadonlySet<PolicyId> | null): void {
    this.#cluster = null;
    if (inUse === null) return;
    this.#partial = this.#partial.filter(({ policies }) =>
      [...policies.keys()].some((id) => inUse.has(id) && this.#applied?.policies.has(id) !== true),
    );
  }
}

/** Compilations that follow each other share what is equal. Of policies for the same members. */
function meansTheSame(left: Compiled, right: Compiled): boolean {
  return (
    left.endpoints === right.endpoints &&
    left.classes === right.classes &&
    left.classTable === right.classTable &&
    left.policies === right.policies &&
    left.dnsServers === right.dnsServers &&
    left.redirects === right.redirects &&
    left.diagnostics === right.diagnostics
  );
}

function isForSameMembers(left: MemberPolicy, right: MemberPolicy): boolean {
  return (
    left.endpoints === right.endpoints &&
    left.patterns === right.patterns &&
    left.selectors === right.selectors &&
    left.ruleSets === right.ruleSets &&
    left.policies === right.policies &&
    left.trustedServers === right.trustedServers &&
    left.neverLearn === right.neverLearn &&
    left.backendDigests === right.backendDigests
  );
}
