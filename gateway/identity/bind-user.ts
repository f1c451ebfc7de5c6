/**
 * Binds the user name a protocol carries to the verified identity, so that no log of a client or target can show one
 * name while another acts.
 */
import { GatewayError } from "../errors.ts";
import type { IdentityInput } from "../policy/input.ts";

/**
 * @param user the token's e-mail (in any case) or its subject (exactly).
 * @throws GatewayError identity.user_mismatch
 */
export function requireUser(identity: IdentityInput, user: string): void {
  if (user !== "" && user === identity.subject) return;
  if (user !== "" && user.toLowerCase() === identity.email.toLowerCase()) return;
  const expected = identity.email === "" ? "its subject" : `its e-mail, ${identity.email}`;
  throw new GatewayError("identity.user_mismatch", "The user is not the one the token was issued to.", {
    hint: `Connect with the token's own user: ${expected}.`,
  });
}
