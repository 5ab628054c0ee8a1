"""Common English words for building distractors."""

from __future__ import annotations

_WORDS = """
the of and a to in is was he for it with as his on be at by had not are but from or have an they which one you
were all her she there would their we him been has when who will no more if out so up said what its about than
into them can only other time new some could these two may first then do any like my now over such our man me
even most made after also did many off before must well back through years where much your way down should
because long each just state those people too mr little good world make very year still see own work men day get
here old life both between being under three never know same last another while us might great go come since
against right came take used himself few house use place during high without again home around small however
found part school once say left number upon water hand until always away something fact less though public put
think almost head enough far took end nothing better night set next system room several order four point power
second rather asked name side later given program city face early business young five group country large course
look others half possible child children family company different often important full least form members
following whole social case within present problem development field white black light front best door open
interest main turn book late general kind want area need free study word idea play began done seems move close
clear line force hold feel air strong true single past market century town local known service human land law
plan story hour body music church car north south east west road river sea king queen war army battle party
money price trade tax court police student teacher team game player season final winner title record film show
song art science theory energy oil food plant animal tree stone metal gold fire earth sun star space ship train
station building bridge wall street park garden island mountain lake forest farm village person woman mother
father son daughter brother sister friend doctor lawyer leader president member office union league council
board agency bank store hospital university college class test paper report letter page language history culture
religion god faith love peace death birth age month week morning evening summer winter spring red blue green
yellow brown dark bright hot cold dry wet hard soft heavy fast slow deep wide short tall thin thick easy simple
common special certain sure ready able similar major minor total average higher lower larger smaller increase
decrease change grow rise fall start stop begin finish win lose buy sell pay cost build break cut carry bring
send give keep leave live die run walk stand sit speak talk write read hear listen watch learn teach help serve
lead follow meet join call ask answer tell try allow require include provide support cause create produce
develop become remain appear happen exist contain reach pass cross enter return travel visit
"""

COMMON_WORDS: tuple[str, ...] = tuple(_WORDS.split())
