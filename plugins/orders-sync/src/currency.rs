//! Currencies and the decimal places of their minor units, after ISO 4217.

use std::collections::BTreeMap;

/// Most decimal places that a minor unit may have: ten to this power fits 64 bits.
pub const MOST_PLACES: u8 = 18;

/// The codes in use, by the decimal places of their minor unit.
const ISO_4217: [(u8, &str); 4] = [
    (
        0,
        "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    ),
    (
        2,
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW \
         CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR \
         ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV \
         MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD \
         SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG",
    ),
    (3, "BHD IQD JOD KWD LYD OMN TND"),
    (4, "CLF UYW"),
];

/// The currencies that are known.
#[derive(Clone, Debug)]
pub struct Currencies {
    places: BTreeMap<String, u8>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Currency<'a> {
    /// Its code, in capital letters.
    pub code: &'a str,
    /// The decimal places of its minor unit.
    pub places: u8,
}

impl Currencies {
    /// Those of ISO 4217, and more. What is given goes before the standard.
    pub fn with(more: &BTreeMap<String, u8>) -> Self {
        let standard = ISO_4217.iter().flat_map(|(places, codes)| {
            codes
                .split_whitespace()
                .map(|code| (code.to_owned(), *places))
        });
        let more = more.iter().map(|(code, places)| (code.clone(), *places));
        Self {
            places: standard.chain(more).collect(),
        }
    }

    /// The currency of a code, which may be in small letters and have blanks around it.
    pub fn find(&self, code: &str) -> Option<Currency<'_>> {
        let (code, places) = self
            .places
            .get_key_value(&code.trim().to_ascii_uppercase())?;
        Some(Currency {
            code,
            places: *places,
        })
    }
}

impl Currency<'_> {
    /// An amount with so many decimal places in whole minor units; `None` if that would round it, or if it is too large.
    pub fn minor_units(self, amount: i128, scale: i8) -> Option<i64> {
        let shift = i32::from(self.places) - i32::from(scale);
        let factor = 10_i128.checked_pow(shift.unsigned_abs())?;
        let units = if shift >= 0 {
            amount.checked_mul(factor)?
        } else {
            (amount % factor == 0).then_some(amount / factor)?
        };
        i64::try_from(units).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_however_they_are_written() {
        let currencies = Currencies::with(&BTreeMap::from([("XBT".to_owned(), 8)]));
        let euro = Currency {
            code: "EUR",
            places: 2,
        };
        for text in ["EUR", "eur", " Eur\n"] {
            assert_eq!(currencies.find(text), Some(euro));
        }
        for unknown in ["", "EU", "EURO", "€", "XXX"] {
            assert_eq!(currencies.find(unknown), None, "{unknown}");
        }
        assert_eq!(currencies.find("xbt").unwrap().places, 8);
    }

    #[test]
    fn each_code_is_listed_once() {
        let listed = ISO_4217
            .iter()
            .map(|(_, codes)| codes.split_whitespace().count());
        assert_eq!(
            listed.sum::<usize>(),
            Currencies::with(&BTreeMap::new()).places.len()
        );
    }

    #[test]
    fn minor_units_are_exact_or_none() {
        let of = |places| Currency { code: "", places };
        assert_eq!(of(2).minor_units(1230, 2), Some(1230));
        assert_eq!(of(0).minor_units(1200, 2), Some(12));
        assert_eq!(of(0).minor_units(1230, 2), None);
        assert_eq!(of(3).minor_units(-1230, 2), Some(-12_300));
        assert_eq!(of(2).minor_units(7, -1), Some(7_000));
        assert_eq!(of(2).minor_units(i128::from(i64::MAX), 2), Some(i64::MAX));
        assert_eq!(of(2).minor_units(i128::from(i64::MAX) + 1, 2), None);
        assert_eq!(of(18).minor_units(i128::MAX, -30), None);
    }
}
