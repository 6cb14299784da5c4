//! From the rpcNode password to the peer key.

use argon2::{Algorithm, Argon2, Params, Version};

/// Kibibytes that one guess costs an attacker.
const MEMORY_KIB: u32 = 19_456;

/// Passes over that memory.
const PASSES: u32 = 2;

/// Argon2id (RFC 9106) with parameters that both nodes must share; a change is
/// a change of the peer protocol. Takes tens of milliseconds.
pub fn derive(password: &str, salt: &[u8]) -> Result<[u8; 32], String> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, Some(32)).map_err(|error| error.to_string())?;
    let mut key = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), salt, &mut key)
        .map_err(|error| error.to_string())?;
    Ok(key)
}
