"""The characters of the built-in glyphs, by split and script.

Characters that look alike in any two scripts, as they stand or after quarter turns, appear once:
Greek Alpha and Cyrillic A are left out for Latin A, and so is u, a turned n. Single straight lines,
filled shapes and mere dots are left out too. All are in the font DejaVu Sans.
"""

ALPHABETS: dict[str, dict[str, str]] = {
    "train": {
        "Latin": (
            "0041-0048 004B-005A 0061-0062 0064-0068 006B 0072 0074 0079 00D8 00DF 00E6 00FE "
            "0184 0187 0190 0194-0195 019B 019E 01A2 01A6 01A9-01AA 01B1 01B7 01BF 01F6 021C "
            "0222 0241 0255-0258 025A 025C-025E 0260 0264 0266-0267 026A-026C 026E 0270-0273 "
            "0275-0276 0278 027B 027D-027F 0281-0282 0284 0286 0288-0289 028B 0290-0291 0293 "
            "0295 029B 029D 02A1-02AE"
        ),
        "Figures": (
            "0023 0025-0026 0030-0032 0034-0035 0037-0038 0040 00A3-00A5 00A7 00B6 2020-2021 "
            "203B 203D 2042 2049 20A0-20B5 20B8-20BA 20BD"
        ),
        "Cyrillic": (
            "0402 0404 0409-040A 0414 0416 0418-041B 041F 0426-042B 042E-042F 0433 0444 044C "
            "0452 045B-0460 0462-0464 0466 0468 046A 046C 046E 0470-0471 0476-0479 047C 047E "
            "0480 048A 048D-048E 0491 0493-0494 0497-0498 049A 049C 049F-04A0 04A2 04A4 04A6 "
            "04A8 04AA 04AC 04B0-04B2 04B4 04B6 04B8 04BC 04BE 04C1-04C3 04C5 04C7 04CB 04CD "
            "04D0-04D1 04D4 04D6-04D7 04DA 04DE-04DF 04E6-04E7 04EA-04EC 04F4 04F6 04F8 04FA "
            "04FD-04FE 0502 0504-0506 0508-0509 050D-050E 0514 0516-0519 051E 0520 0522 A644 "
            "A64C A650 A656-A657 A662 A664 A666 A66E"
        ),
        "Greek": (
            "0394 039E 03A8 03B1-03B2 03B6 03BB-03BE 03C4 03C6-03C8 03D2-03D4 03DA 03DD-03E1"
        ),
        "Coptic": ("03E2 03E4 03E6-03E7 03EA 03EC"),
        "Hebrew": ("05D0-05D4 05D8 05DC 05DE 05E2-05E3 05E5-05EA"),
        "Arabic": (
            "0624 0626 0629 062B-062C 062E 0631 0633-0635 0637 0639-063A 0641-0646 0648-0649 "
            "0662-0664 0666-0667 0669 0674 067B-067C 0681 0688-0689 068B 0691 0693 0695 069E "
            "06A0-06A1 06A5 06A9-06AB 06AD-06B0 06B2-06B3 06B5 06B9 06BB-06BE 06C6-06C8 06D0"
        ),
        "Canadian syllabics": (
            "1402 1404-1406 140B 140D 1412 1414-1415 1417-141A 1425 142B-142E 1430 1433-1434 "
            "1439 143D 143F-1444 1446-1447 144D 1456-1458 145B-1460 1463-1464 1467-146A 146C "
            "146E 1470 1472-1479 147C-147D 1480-1481 1485-1488 148A 1490 1492-1495 14AD-14AE "
            "14B7 14C1 14D0 14D4 14EE 1504 1510-1516 1518 151A-151B 151D 151F 1521 1523 "
            "1526-1528 152F-1532 1542-1543 1545 1547 1549 154C 154E-154F 1553-155C 155E-155F "
            "1562-1569 1574-1576 1578 157A 157E-1585 158A-158B 158E-158F 1591-1593 1595-1596 "
            "15A3 15A5 15A7-15A9 15AB 15AD 1647 166F-1671 1673-1675"
        ),
        "Mathematics": (
            "2201-2202 2204-2205 2208-2209 220D 2213-2214 2217 221A-221D 221F-2221 2225 "
            "222C-2231 223F 2241-2242 2244-2245 2247 2249 224D-2250 2254 2256-2257 2259-225F "
            "2263-226A 226C-226E 2270-2271 2276-2279 227C-227D 2281 2284 2286-228C 228F "
            "2295-2296 229B-229C 229E-22A1 22A6-22A8 22AA-22B0 22B4-22B5 22B8 22BB 22BD-22BF "
            "22C4 22C6 22C8 22CB-22CD 22D0 22D5 22D8 22DA-22DB 22E0-22E1 22E6-22EA 22EC-22ED "
            "22F3 22F5-22F9 22FC 27C5-27C6 27E0 2A02 2A0C"
        ),
    },
    "val": {
        "Armenian": (
            "0533-0535 0537-053B 053F-0541 0543 0545-0547 0549-054B 054E 0552 0556 0562 0569 "
            "056B 056D 0573 0579 057B-057C 057E 0580 0583 0587"
        ),
        "Nko": ("07C2 07C4 07C6-07C7 07C9 07D0 07D2 07D6 07DA 07E0 07E2 07E4 07E6-07E7"),
    },
    "test": {
        "Georgian": (
            "10A0 10A2-10A3 10A5-10A7 10A9 10AB 10AF-10B0 10B2 10B4-10B5 10B8 10BB-10BC 10BE "
            "10C0-10C1 10C3 10D1 10D3 10D5-10D6 10D9-10DA 10DE-10E0 10E2-10E7 10EF 10F2 "
            "10F4-10F5 10F7"
        ),
        "Lao": (
            "0E81-0E82 0E84 0E87-0E88 0E8A 0E8D 0E95-0E97 0E99 0E9C-0E9E 0EA1-0EA2 0EA5 0EA7 "
            "0EAA-0EAB 0EAD-0EB0 0EBD 0EC1 0EC3 0EC6 0ED1-0ED2 0ED4-0ED9 0EDD"
        ),
        "Tifinagh": ("2D3B-2D3D 2D3F 2D44 2D47 2D4B 2D4E 2D50 2D52-2D53 2D5A-2D5C 2D5E 2D62-2D65"),
    },
}
"""Split, then script, then its characters as hexadecimal code points and ranges of them."""


def characters(split: str, script: str) -> tuple[str, ...]:
    """Return the characters of a script, in the order of their code points.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.
        script: A script of that split.

    Example:
        >>> "".join(characters("train", "Latin")[:5])
        'ABCDE'
    """
    found: list[str] = []
    for part in ALPHABETS[split][script].split():
        first, _, last = part.partition("-")
        found.extend(chr(code) for code in range(int(first, 16), int(last or first, 16) + 1))
    return tuple(found)
