/** Lowers limits for as long as a test's scope lasts, so that it can go one over a large or slow one. */
import { limits } from "../gateway/limits.ts";

type Limits = { -readonly [Name in keyof typeof limits]: number };

/** `using _ = loweredLimits({ portalsMax: 2 })`: what is made inside the scope has them, and they end with it. */
export function loweredLimits(values: Partial<Limits>): Disposable {
  const writable: Limits = limits;
  const before: Limits = { ...limits };
  Object.assign(writable, values);
  return { [Symbol.dispose]: () => void Object.assign(writable, before) };
}
