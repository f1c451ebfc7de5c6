/**
 * Holds the policy in force. A new one is loaded and tried aside, and takes over only when it proved itself; whatever
 * is wrong with it, the old one stays.
 */
import type { Config } from "../config.ts";
import { type BundleFiles, loadBundle } from "./bundle.ts";
import type { EvaluationWatch } from "./engine.ts";
import { Policy } from "./policy.ts";
import { selfTest } from "./self-test.ts";
import { Watchdog } from "./watchdog.ts";

export type PolicyListener = (policy: Policy, previous: Policy) => void;

async function loadPolicy(from: BundleFiles, watch: EvaluationWatch): Promise<Policy> {
  const policy = new Policy(await loadBundle(from), watch);
  selfTest(policy);
  return policy;
}

export class PolicyHost {
  readonly #from: BundleFiles;
  readonly #watchdog: Watchdog;
  readonly #listeners = new Set<PolicyListener>();
  #policy: Policy;
  #reloading: Promise<Policy> | undefined;

  private constructor(from: BundleFiles, watchdog: Watchdog, policy: Policy) {
    this.#from = from;
    this.#watchdog = watchdog;
    this.#policy = policy;
  }

  /** Throws `policy.*`: a gateway without a policy that proved itself does not start. */
  static async load(policies: Config["policies"]): Promise<PolicyHost> {
    const from = { bundle: policies.bundle, ...(policies.data !== undefined && { data: policies.data }) };
    const watchdog = await Watchdog.start();
    try {
      return new PolicyHost(from, watchdog, await loadPolicy(from, watchdog));
    } catch (error) {
      watchdog.stop();
      throw error;
    }
  }

  current(): Policy {
    return this.#policy;
  }

  /** Resolves to the policy then in force; rejects with what is wrong with the new one, and the old one stays. */
  reload(): Promise<Policy> {
    this.#reloading ??= this.#reload().finally(() => {
      this.#reloading = undefined;
    });
    return this.#reloading;
  }

  async #reload(): Promise<Policy> {
    const policy = await loadPolicy(this.#from, this.#watchdog);
    const previous = this.#policy;
    const same =
      policy.bundle.contentDigest === previous.bundle.contentDigest &&
      policy.revision.commit === previous.revision.commit;
    if (same) return previous;
    this.#policy = policy;
    for (const listener of this.#listeners) listener(policy, previous);
    return policy;
  }

  /** @returns a function that ends the listening. A listener must not throw. */
  onChange(listener: PolicyListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  stop(): void {
    this.#listeners.clear();
    this.#watchdog.stop();
  }
}
